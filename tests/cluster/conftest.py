"""Real clusters for tests: one for the whole session, one control plane for the whole session, a namespace each."""

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import debian, oci
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import can_run_local
from k8s_e2e.model.settings import Settings
from tests.cluster.docker_engine import DockerEngine

_numbers = itertools.count(1)


class Kubectl:
    """kubectl against one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.argv = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]

    def __call__(self, *words: str, stdin: str = "", timeout_s: float = 60, check: bool = True) -> str:
        """Run it and return what it printed."""
        return process.run([*self.argv, *words], timeout_s=timeout_s, stdin=stdin.encode(), check=check).stdout

    def get(self, *words: str) -> Any:
        """Return an object, or a list, as plain data."""
        return json.loads(self("get", *words, "-o", "json"))


@pytest.fixture(scope="session")
def local_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The user's cache, and a state directory of the session's own."""
    if not can_run_local():
        pytest.skip("a local cluster needs root on Linux")
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def provider(local_settings: Settings) -> LocalProvider:
    """The local provider."""
    return LocalProvider(local_settings)


@pytest.fixture(scope="session")
def cluster(provider: LocalProvider) -> Iterator[Cluster]:
    """A whole cluster, up once for the session."""
    name = f"tests-{os.getpid()}"
    try:
        yield provider.up(name, progress=print)
    finally:
        provider.down(name, progress=print)


@pytest.fixture(scope="session")
def control_plane(provider: LocalProvider) -> Iterator[Cluster]:
    """etcd, kube-apiserver and kube-controller-manager without a node, up once for the session."""
    name = f"tests-control-plane-{os.getpid()}"
    try:
        yield provider.up(name, control_plane_only=True, progress=print)
    finally:
        provider.down(name, progress=print)


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    """Kubectl for the session's cluster."""
    return Kubectl(cluster)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A fresh namespace, ready for pods, deleted after the test without waiting for it."""
    name = f"test-{next(_numbers)}"
    kubectl("create", "namespace", name)
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=20s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def pause_image() -> str:
    """An image that every node has: a container that waits."""
    return "registry.k8s.io/pause:3.9"


@pytest.fixture(scope="session")
def busybox_image(tmp_path_factory: pytest.TempPathFactory) -> oci.BuiltImage:
    """Debian's busybox as an image in an archive."""
    scratch = tmp_path_factory.mktemp("busybox")
    debian.unpack(["busybox-static"], scratch / "deb", timeout_s=60, progress=print)
    binary = next((scratch / "deb" / "root").glob("**/bin/busybox"))
    files = {"/bin/busybox": binary, "/bin/sh": binary}
    return oci.single_binary_image(scratch / "busybox.tar", "localhost/busybox:1", [], files)


@pytest.fixture(scope="session")
def busybox(provider: LocalProvider, cluster: Cluster, busybox_image: oci.BuiltImage) -> str:
    """Debian's busybox as an image in the node: a shell for containers that say and do something."""
    provider.load(cluster.name, busybox_image.archive, progress=print)
    return busybox_image.reference


@pytest.fixture(scope="session", params=["debian", pytest.param("newest", marks=pytest.mark.soak)])
def session_docker(local_settings: Settings, request: pytest.FixtureRequest) -> Iterator[DockerEngine]:
    """A Docker engine, started once for the session: Debian's, and one as on GitHub's runners."""
    try:
        engine = DockerEngine(local_settings, newest=request.param == "newest")
    except EnvironmentFailure as error:
        pytest.skip(f"this Docker engine cannot be had: {error}")
    with engine:
        yield engine


@pytest.fixture
def docker_engine(session_docker: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """A Docker engine that programs of this test find: the client on the PATH, and its address."""
    for name, value in session_docker.environment.items():
        monkeypatch.setenv(name, value)
    return session_docker
