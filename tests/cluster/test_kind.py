"""Clusters by the real kind on a real Docker engine, with real API server and containerd; the node's rest is played."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import assets, bundles, images, oci
from k8s_e2e.cluster.bundles import Bundle, GoBuild
from k8s_e2e.cluster.kind.provider import KindProvider
from k8s_e2e.cluster.local.forwarder import serve
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.kube import Kube
from tests.cluster.docker_engine import DockerEngine

pytestmark = pytest.mark.cluster

NAME = "rehearsal"
NODE = f"{NAME}-control-plane"
IMAGE = "localhost/rehearsal/node:1"
PLAYED = ("entrypoint", "journalctl", "kubeadm", "kubectl", "sh")
CRICTL = Bundle(
    name="crictl",
    provides={"crictl": "bin/crictl"},
    versions={"crictl": "1.36.0"},
    build=GoBuild(
        module="crictl",
        within=Path(__file__).resolve().parents[1] / "tools",
        output="bin/crictl",
        package="sigs.k8s.io/cri-tools/cmd/crictl",
        usual_minutes=1.5,
    ),
)
PORT = '{{ (index (index .NetworkSettings.Ports "6443/tcp") 0).HostPort }}'


@pytest.fixture
def kind(
    tmp_path: Path,
    docker_engine: DockerEngine,
    busybox_image: oci.BuiltImage,
    control_plane: Cluster,
) -> Iterator[KindProvider]:
    """What `auto` takes where an engine answers; the node image has the control plane's own kubeconfig."""
    busybox = next(busybox_image.archive.parent.glob("deb/root/**/bin/busybox"))
    version = tmp_path / "version"
    version.write_text(f"v{bundles.KUBERNETES}")
    nothing = tmp_path / "nothing"
    nothing.touch()
    script = Path(__file__).parent / "kind_node.sh"
    files = {"/bin/busybox": busybox, "/kind/version": version}
    files |= {f"/kind/manifests/default-{name}.yaml": nothing for name in ("cni", "storage")}
    files |= containerd(tmp_path)
    files |= {"/etc/kubernetes/admin.conf": control_plane.kubeconfig, **{f"/bin/{name}": script for name in PLAYED}}
    image = oci.single_binary_image(tmp_path / "node.tar", IMAGE, ["/bin/entrypoint"], files, user="0")
    docker_engine.docker("load", "--input", image.archive)
    made = get_provider("auto", Settings(state_dir=tmp_path / "state", kind_node_image=IMAGE))
    assert isinstance(made, KindProvider)
    yield made
    made.down(NAME, progress=print)


def containerd(scratch: Path) -> dict[str, Path]:
    """Return containerd, the two programs that kind and the kit ask it by, their configuration and libraries."""
    found = assets.ensure(["containerd", "ctr"], Settings(), print)
    programs = [found.path("containerd"), found.path("ctr"), assets.obtain(CRICTL, Settings(), print)[0] / "bin/crictl"]
    listed = process.run(["ldd", *programs[:2]], timeout_s=10, check=False).stdout  # a static one has none
    libraries = {path: Path(path) for path in re.findall(r"\s(/\S+) \(", listed)}
    configured = {"containerd/config.toml": "version = 2\n"}
    configured["crictl.yaml"] = "runtime-endpoint: unix:///run/containerd/containerd.sock\n"
    for name, text in configured.items():
        (scratch / Path(name).name).write_text(text)
    settings = {f"/etc/{name}": scratch / Path(name).name for name in configured}
    return libraries | settings | {f"/bin/{path.name}": path for path in programs}


@pytest.fixture
def published(docker_engine: DockerEngine, control_plane: Cluster) -> Iterator[None]:
    """What listens on the port that the engine publishes for the node: the engine's network is not the host's."""
    port = urlsplit(yaml.safe_load(control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]).port
    assert port
    ended = threading.Event()

    async def until_ended() -> None:
        while not ended.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.05)

    def publish() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(process.ProgramFailed, ValueError):
                listener = socket.create_server(("127.0.0.1", int(docker_engine.docker("inspect", "-f", PORT, NODE))))
                serve(listener, ("127.0.0.1", port), until_ended())

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("published")
def test_a_cluster_from_up_to_down(kind: KindProvider, docker_engine: DockerEngine, tmp_path: Path) -> None:
    """A node is made, its API server answers by the private kubeconfig, images arrive, logs come out, nothing stays."""
    cluster = kind.up(NAME, progress=print)
    assert docker_engine.docker("inspect", "-f", "{{.State.Running}} {{.Config.Image}}", NODE).split() == [
        "true",
        IMAGE,
    ]
    assert cluster.versions["kubernetes"] == bundles.KUBERNETES
    with Kube.connect(cluster.kubeconfig, cluster.context) as kube:
        assert kube.get("v1", "Namespace", "kube-system")
    assert kind.attach(NAME) == cluster

    program = tmp_path / "program"
    program.write_bytes(b"program")
    built = [
        oci.single_binary_image(tmp_path / f"{tag}.tar", f"turbo/{tag}:e2e", ["/it"], {"/it": program}, env={"A": tag})
        for tag in ("a", "b")
    ]
    said: list[str] = []
    records = images.load_and_verify(kind, NAME, built, said.append)
    assert [(record.reference, record.digest) for record in records] == [(one.reference, one.digest) for one in built]
    assert images.load_and_verify(kind, NAME, built, said.append) == records
    assert len([line for line in said if line.startswith("loading images.tar")]) == 1

    logs = kind.component_logs(NAME, tmp_path / "logs", timeout_s=60)
    assert "kind-export" not in logs, logs["kind-export"].read_text()
    assert logs["etcd"].read_text() == "2026-01-02T03:04:05Z stderr F etcd began\n"
    assert logs["kubelet"].read_text() == "journal --no-pager -u kubelet.service\n"
    assert logs["serial"].read_text().strip() == "Reached target Multi-User System."

    kind.down(NAME, progress=silent)
    assert docker_engine.docker("ps", "--all", "--quiet") == ""
    assert docker_engine.docker("volume", "ls", "--quiet") == ""
    assert not cluster.kubeconfig.exists()
    with pytest.raises(EnvironmentFailure, match="there is no kind cluster"):
        kind.attach(NAME)


def test_a_node_image_that_cannot_be_had(kind: KindProvider, docker_engine: DockerEngine, tmp_path: Path) -> None:
    """A pull that the engine refuses ends before any node is made, in the engine's words."""
    settings = Settings(state_dir=tmp_path / "state", kind_node_image="localhost:1/no/node:1")
    with pytest.raises(EnvironmentFailure, match=r"docker pull .*localhost:1/no/node:1 exited with 1: .*refused"):
        KindProvider(settings).up(NAME, progress=silent)
    assert docker_engine.docker("ps", "--all", "--quiet") == ""
