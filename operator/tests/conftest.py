"""Fixtures of the operator's tests."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from k8s_e2e.cluster.local import teardown
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.providers import can_run_local
from k8s_e2e.model.settings import Settings

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

    def kill(self, component: str) -> None:
        """SIGKILL a component; the cluster starts it again a second later."""
        launcher_and_init = teardown.processes(self.kubeconfig.parent)
        for pid in launcher_and_init:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]
                if command.endswith(component.encode()):
                    os.kill(int(child), signal.SIGKILL)
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
