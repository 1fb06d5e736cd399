"""Fixtures of the operator's tests."""

from collections.abc import Iterator

import pytest
from control_plane import ControlPlane, find_binaries, start_control_plane
from hypothesis import HealthCheck, settings

settings.register_profile("operator", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("operator")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with etcd and controllers; `.kubeconfig` is its administrator's."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("needs etcd, kube-apiserver and kube-controller-manager in the directory K8S_E2E_BIN_DIR")
    plane = start_control_plane(binaries, tmp_path_factory.mktemp("control-plane") / "plane")
    yield plane
    plane.stop()
