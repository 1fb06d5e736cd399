"""kill -9 of `up` at many moments: nothing may ever be left."""

import random
import time

import pytest

from k8s_e2e.cluster.local.layout import clusters_dir
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.model.settings import Settings
from tests.cluster.leftovers import assert_nothing_left, host_state, kill_up_after, start_down

LATEST_S = 8.0  # a whole `up`
_reproducible = random.Random(20)  # noqa: S311 - no secret
MOMENTS = [round(_reproducible.uniform(0, LATEST_S), 2) for _ in range(20)]


@pytest.mark.soak
@pytest.mark.parametrize("after_s", MOMENTS)
def test_down_after_kill_at_any_moment(provider: LocalProvider, local_settings: Settings, after_s: float) -> None:
    """After kill -9 of `up` at a random moment, `down` leaves no process, mount, card, control group or file."""
    before = host_state(local_settings)
    kill_up_after(local_settings, "soaked", after_s, control_plane_only=False)
    provider.down("soaked", progress=print)
    assert_nothing_left(clusters_dir(local_settings.state_dir) / "soaked")
    assert host_state(local_settings) == before


@pytest.mark.soak
@pytest.mark.parametrize("after_s", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_down_again_after_killed_down(provider: LocalProvider, local_settings: Settings, after_s: float) -> None:
    """A `down` that was killed is finished by the next one."""
    provider.up("halfway", progress=print)
    before = host_state(local_settings)
    maker = start_down(local_settings, "halfway")
    time.sleep(after_s)
    maker.kill()
    maker.communicate()
    provider.down("halfway", progress=print)
    assert_nothing_left(clusters_dir(local_settings.state_dir) / "halfway")
    assert host_state(local_settings) == before
