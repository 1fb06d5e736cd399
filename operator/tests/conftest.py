"""Fixtures of the operator's tests."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from sandbox import Sandbox, make_sandbox

from k8s_e2e.cluster.local import teardown
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.providers import can_run_local
from k8s_e2e.model.settings import Settings
from turbo_operator.kube.client import ApiError, Unreachable

settings.register_profile("operator", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(  # for `task mutants`: the same few examples each time, and no search for a smaller one
    "mutants",
    settings.get_profile("operator"),
    max_examples=15,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("operator")


@dataclass(frozen=True)
class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager without a node, with the kubeconfig of the administrator."""

    kubeconfig: Path

    @property
    def process(self) -> int:
        """A process in the network namespace of the API server."""
        return teardown.processes(self.kubeconfig.parent)[-1]

    def kill(self, component: str, number: int = signal.SIGKILL) -> None:
        """Send a component a signal; one that has ended is started again a second later."""
        launcher_and_init = teardown.processes(self.kubeconfig.parent)
        for pid in launcher_and_init:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]
                if command.endswith(component.encode()):
                    os.kill(int(child), number)
                    return
        raise LookupError(f"{component} does not run")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with its controllers, up once for the session."""
    if not can_run_local():
        pytest.skip("a local control plane needs root on Linux")
    provider = LocalProvider(Settings(state_dir=tmp_path_factory.mktemp("state")))
    name = f"operator-{os.getpid()}"
    try:
        yield ControlPlane(provider.up(name, control_plane_only=True, progress=print).kubeconfig)
    finally:
        provider.down(name, progress=print)


_numbers = itertools.count(1)


@pytest.fixture
def new_sandbox(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Callable[[], Sandbox]]:
    """Makes namespaces; they are deleted in the end."""
    made: list[Sandbox] = []

    def make() -> Sandbox:
        name = f"operator-{int(time.time())}-{next(_numbers)}"
        (directory := tmp_path / name).mkdir()
        made.append(make_sandbox(control_plane.kubeconfig, name, directory))
        return made[-1]

    yield make
    for each in made:
        for process in each.started:
            process.close()
        with suppress(ApiError, Unreachable):  # the test has deleted it, or taken the API server away
            each.admin.request("DELETE", f"/api/v1/namespaces/{each.namespace}")


@pytest.fixture
def sandbox(new_sandbox: Callable[[], Sandbox]) -> Sandbox:
    """A namespace of its own."""
    return new_sandbox()
