"""kill -9 of `up` at many moments: nothing may ever be left."""

import random

import pytest

from k8s_e2e.cluster.local.layout import clusters_dir
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.model.settings import Settings
from tests.cluster.leftovers import assert_nothing_left, host_state, kill_up_after

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
