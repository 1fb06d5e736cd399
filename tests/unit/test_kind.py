"""Clusters by the real program kind, on an engine that a stand-in for docker plays.

What kind asks docker, and what the kit itself does, goes through the real docker's parser afterwards.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s_e2e.base.errors import EnvironmentFailure, UsageError
from k8s_e2e.base.progress import silent
from k8s_e2e.cluster import assets, bundles, kubectl, oci
from k8s_e2e.cluster.kind import provider as kind_provider
from k8s_e2e.cluster.kind.node_images import common, parsed
from k8s_e2e.cluster.kind.program import Kind, fits
from k8s_e2e.cluster.kind.provider import KindProvider
from k8s_e2e.cluster.provider import LoadedImage
from k8s_e2e.model.settings import Settings, load_settings
from tests.lacking import lacking

ADMIN = """
apiVersion: v1
kind: Config
current-context: kubernetes-admin@demo
clusters: [{name: demo, cluster: {server: "https://demo-control-plane:6443"}}]
users: [{name: kubernetes-admin, user: {token: secret}}]
contexts: [{name: kubernetes-admin@demo, context: {cluster: demo, user: kubernetes-admin}}]
"""
ONE = {"demo-control-plane": ["demo", "control-plane"]}
TWO = {**ONE, "demo-worker": ["demo", "worker"], "demo-external-load-balancer": ["demo", "external-load-balancer"]}
NO_ENGINE = "unix:///nonexistent/docker.sock"


class Engine:
    """The stand-in's directory: what it has, and what it was asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.says(nodes={}, images=[], admin=ADMIN, crictl={}, refuses={})

    def says(self, **values: Any) -> None:
        """Change what the engine has."""
        path = self.root / "engine.json"
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))

    @property
    def nodes(self) -> list[str]:
        """The containers that are there."""
        return list(json.loads((self.root / "engine.json").read_text())["nodes"])

    @property
    def calls(self) -> list[list[str]]:
        """The command lines of docker so far."""
        path = self.root / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def parse_error(docker: str, words: list[str]) -> str:
    """What the real docker's parser says against a command line; it finds no engine, so nothing is ever done."""
    environment = {**os.environ, "DOCKER_HOST": NO_ENGINE}
    done = subprocess.run(
        [docker, *words],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    came_to_the_engine = NO_ENGINE.removeprefix("unix://") in done.stderr or words == ["-v"]
    return "" if came_to_the_engine else done.stderr or f"docker {shlex.join(words)} did not ask an engine"


def docker_client() -> str:
    """Find the real client, or end the test for want of it."""
    found = shutil.which("docker")
    if not found:
        lacking("there is no docker client to parse command lines with")
    return found


@pytest.fixture(scope="session")
def real_docker() -> str:
    """The real client, whatever stands before it on PATH later."""
    return docker_client()


@pytest.fixture(scope="session")
def real_kind() -> Path:
    """The kit's own kind, built or downloaded once."""
    try:
        return assets.ensure(["kind"], load_settings(), print).path("kind")
    except EnvironmentFailure as error:
        lacking(f"kind cannot be had: {error}")


@pytest.fixture
def engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_kind: Path, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    """An engine without clusters and the real kind, both on PATH; every command line is parsed for real at the end."""
    docker = request.getfixturevalue("real_docker")
    places = tmp_path / "bin"
    places.mkdir()
    script = (Path(__file__).parent / "docker_stand_in.py").read_text()
    (places / "docker").write_text(f"#!{sys.executable} -SE\n{script}")
    (places / "docker").chmod(0o755)
    (places / "kind").symlink_to(real_kind)
    monkeypatch.setenv("PATH", f"{places}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mine"))
    stand_in = Engine(places)
    yield stand_in
    asked = {shlex.join(words): words for words in stand_in.calls}
    assert {line: error for line, words in asked.items() if (error := parse_error(docker, words))} == {}
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "mine").exists()


@pytest.fixture
def provider(tmp_path: Path) -> KindProvider:
    """A provider with a state directory of its own."""
    return KindProvider(Settings(state_dir=tmp_path / "state", up_timeout_s=60))


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """No API server is asked: tests/cluster/test_kind.py has a real one."""
    versions = {"serverVersion": {"gitVersion": "v1.36.1"}, "clientVersion": {"gitVersion": "v1.36.3"}}
    monkeypatch.setattr(kind_provider, "_answer", lambda *_: versions)
    monkeypatch.setattr(kubectl, "on_path", lambda: Path("/usr/bin/kubectl"))


def test_without_a_docker_client_the_tests_of_its_parser_are_not_green_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are skipped on somebody's machine, and fail where nobody would notice."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(pytest.fail.Exception, match="there is no docker client"):
        docker_client()
    monkeypatch.delenv("GITHUB_ACTIONS")
    with pytest.raises(pytest.skip.Exception, match="there is no docker client"):
        docker_client()


def test_the_real_parser_refuses_what_docker_does_not_know(real_docker: str) -> None:
    """The check that the other tests rest on fails for an unknown flag, a missing argument and an unknown command."""
    assert parse_error(real_docker, ["exec", "node", "crictl", "images", "-o", "json"]) == ""
    assert "unknown flag: --nodes" in parse_error(real_docker, ["exec", "--nodes", "node", "crictl"])
    assert "requires at least 2 arguments" in parse_error(real_docker, ["exec", "node"])
    assert "unknown command: docker execute" in parse_error(real_docker, ["execute", "node"])


@pytest.mark.usefixtures("attached")
def test_up_makes_a_cluster_of_the_pinned_image_and_down_removes_it(engine: Engine, provider: KindProvider) -> None:
    """The node runs the pinned image, the kubeconfig is private and nobody else's is written; down leaves nothing."""
    said: list[str] = []
    cluster = provider.up("demo", progress=said.append)
    assert engine.nodes == ["demo-control-plane"]
    ran = next(words for words in engine.calls if words[0] == "run")
    assert ran[-1] == bundles.KIND_NODE_IMAGE or bundles.KIND_NODE_IMAGE in ran
    assert ["pull", "--quiet", bundles.KIND_NODE_IMAGE] in engine.calls
    assert (cluster.provider, cluster.context, cluster.pod_logs) == ("kind", "kind-demo", None)
    assert cluster.versions == {"kubernetes": "1.36.1", "kind": bundles.KIND}
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert cluster.kubeconfig.parent.stat().st_mode & 0o777 == 0o700
    assert "server: https://127.0.0.1:1\n" in cluster.kubeconfig.read_text()
    assert said == ["pulling kindest/node:v1.36.1, some 400 MB", "creating kind cluster demo, usually 0.5-1 min"]
    provider.down("demo", progress=said.append)
    provider.down("demo", progress=said.append)
    assert said[2:] == ["removing kind cluster demo", "there is no kind cluster demo"]
    assert engine.nodes == []
    assert not cluster.kubeconfig.parent.exists()


@pytest.mark.usefixtures("attached")
def test_a_cluster_that_exists_is_used(engine: Engine, provider: KindProvider) -> None:
    """Up and attach take a cluster that somebody else made; nothing is run or pulled."""
    engine.says(nodes=ONE)
    assert provider.up("demo", progress=silent) == provider.attach("demo")
    assert not [words for words in engine.calls if words[0] in ("run", "pull", "rm")]


def test_a_cluster_that_is_not_there_is_named(engine: Engine, provider: KindProvider) -> None:
    """Attaching to none says which there are and the command that makes it."""
    engine.says(nodes=ONE)
    hint = r"`k8s-e2e up other --provider kind` makes it; there are: demo"
    with pytest.raises(EnvironmentFailure, match=rf"there is no kind cluster 'other'; {hint}"):
        provider.attach("other")


def test_an_api_server_that_is_silent_is_told(
    engine: Engine, provider: KindProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster whose containers are there but whose API server is not ends with what was seen last."""
    engine.says(nodes=ONE)
    monkeypatch.setattr(kind_provider, "_ATTACH_S", 0.2)
    program = engine.root / "kubectl"
    program.write_text("#!/bin/sh\necho '{\"clientVersion\": {}}'\necho refused >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(
        EnvironmentFailure, match=r"API server of kind cluster 'demo'; last seen: refused; `k8s-e2e down"
    ):
        provider.attach("demo")


def test_a_create_that_fails_says_what_kind_printed_and_leaves_no_node(
    engine: Engine, provider: KindProvider, tmp_path: Path
) -> None:
    """The error has kind's words, the node's logs are kept, the node is gone."""
    engine.says(refuses={"exec --privileged demo-control-plane kubeadm": "the kubelet is not healthy"})
    with pytest.raises(EnvironmentFailure, match=r"(?s)could not be made: .*the kubelet is not healthy.*logs are in"):
        provider.up("demo", progress=silent)
    assert engine.nodes == []
    kept = tmp_path / "state" / "failed" / "demo"
    assert "Creating cluster" in (kept / "kind-create.log").read_text()
    assert (
        kept / "nodes" / "demo-control-plane" / "kubelet.log"
    ).read_text() == "journal --no-pager -u kubelet.service\n"
    assert not (tmp_path / "state" / "kind" / "demo").exists()


def test_a_create_that_hangs_ends_at_the_deadline(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline ends kind, says how far it was, and removes what it made."""
    communicate = subprocess.Popen.communicate

    def once_it_hangs(self: Any, input: Any = None, timeout: float | None = None) -> Any:  # noqa: A002 - as it is called
        """Count the deadline from the hang on: how long a busy machine takes to get there says nothing."""
        late = time.monotonic() + 60
        while timeout == 0.7 and not (engine.root / "hanging").exists() and time.monotonic() < late:
            time.sleep(0.02)
        return communicate(self, input, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", once_it_hangs)
    engine.says(refuses={"exec --privileged demo-control-plane kubeadm": "hang"})
    provider = KindProvider(Settings(state_dir=tmp_path / "state", up_timeout_s=0.7))
    with pytest.raises(EnvironmentFailure, match=r"(?s)did not end within 0\.7 s: .*Starting control-plane"):
        provider.up("demo", progress=silent)
    assert engine.nodes == []


def test_an_engine_that_fails_is_told_in_its_words(engine: Engine, provider: KindProvider) -> None:
    """What docker refuses comes out through kind with docker's reason."""
    engine.says(refuses={"ps": "Error response from daemon: the disk is on fire"})
    with pytest.raises(EnvironmentFailure, match="the disk is on fire"):
        provider.attach("demo")
    engine.says(nodes=ONE, refuses={"pull": "toomanyrequests: You have reached your pull rate limit"})
    with pytest.raises(EnvironmentFailure, match=r"docker pull .*toomanyrequests"):
        provider.up("more", progress=silent)


def test_no_engine_is_one_clear_line(engine: Engine, provider: KindProvider) -> None:
    """Without an engine every call says so first, with the way forward."""
    engine.says(refuses={"version": "Cannot connect to the Docker daemon"})
    for call in (provider.attach, provider.images, lambda name: provider.down(name, progress=silent)):
        with pytest.raises(
            EnvironmentFailure, match=r"needs a Docker engine, and none answers: Cannot connect"
        ) as caught:
            call("demo")
        assert "--provider existing" in caught.value.hint


def test_archives_reach_every_node(engine: Engine, provider: KindProvider, tmp_path: Path) -> None:
    """Each Kubernetes node gets the archive whole; a load balancer is none."""
    engine.says(nodes=TWO)
    program = tmp_path / "program"
    program.write_bytes(b"program")
    archive = oci.single_binary_image(tmp_path / "it.tar", "turbo/it:e2e", ["/it"], {"/it": program}).archive
    provider.load("demo", archive, progress=silent)
    for node in ("demo-control-plane", "demo-worker"):
        assert (engine.root / f"loaded-{node}").read_bytes() == archive.read_bytes()
    with pytest.raises(UsageError, match="no image archive"):
        provider.load("demo", tmp_path / "none.tar", progress=silent)
    engine.says(refuses={"exec --privileged -i demo-worker ctr": "ctr: no space left on device"})
    with pytest.raises(EnvironmentFailure, match="no space left on device"):
        provider.load("demo", archive, progress=silent)


def test_an_image_counts_when_all_nodes_have_it(engine: Engine, provider: KindProvider) -> None:
    """Images are listed by their full reference, config digest and size, those that some node lacks left out."""
    first = {"id": "sha256:aa", "repoTags": ["docker.io/turbo/a:e2e", "docker.io/turbo/a:2"], "size": "7"}
    second = {"id": "sha256:bb", "repoTags": [], "repoDigests": ["x@sha256:cc"], "size": "8"}
    other = {"id": "sha256:dd", "repoTags": ["docker.io/turbo/a:2"], "size": "7"}
    lists = {
        "demo-control-plane": [first, second],
        "demo-worker": [{**first, "repoTags": first["repoTags"][:1]}, other],
    }
    crictl = {node: json.dumps({"images": images}) for node, images in lists.items()}
    engine.says(nodes=TWO, crictl=crictl)
    assert provider.images("demo") == [LoadedImage(reference="docker.io/turbo/a:e2e", digest="sha256:aa", bytes=7)]
    engine.says(crictl={**crictl, "demo-worker": "time=now level=fatal"})
    with pytest.raises(EnvironmentFailure, match="crictl in node demo-worker does not list its images"):
        provider.images("demo")
    with pytest.raises(EnvironmentFailure, match="kind cluster 'none' has no nodes"):
        provider.images("none")


def test_lists_of_images() -> None:
    """No node has no image; an empty node has none; a short name is written in full."""
    assert common([]) == []
    assert parsed('{"images": null}') == []
    assert parsed('{"images": [{"id": "sha256:a", "repoTags": ["pause"]}]}') == [
        LoadedImage(reference="docker.io/library/pause:latest", digest="sha256:a")
    ]


def test_exported_logs_by_component(engine: Engine, provider: KindProvider, tmp_path: Path) -> None:
    """Each component has its file, earlier runs and twins are told apart, other pods are left out."""
    engine.says(nodes=ONE)
    logs = provider.component_logs("demo", tmp_path, timeout_s=60)
    assert {name: path.read_text().strip() for name, path in logs.items()} == {
        "kubelet": "journal --no-pager -u kubelet.service",
        "containerd": "journal --no-pager -u containerd.service",
        "journal": "journal --no-pager",
        "serial": "demo-control-plane: Reached target Multi-User System.",
        "etcd": "etcd again",
        "etcd.run0": "etcd began",
        "kube-apiserver": "apiserver",
        "coredns-coredns-x1": "coredns one",
        "coredns-coredns-x2": "coredns two",
    }


def test_logs_that_are_there_in_part(engine: Engine, provider: KindProvider, tmp_path: Path) -> None:
    """What one node lacks is told in a file of its own beside what there is; a node's name follows the component's."""
    engine.says(nodes=TWO, refuses={"exec --privileged demo-worker journalctl": "no journal here"})
    logs = provider.component_logs("demo", tmp_path / "some", timeout_s=60)
    assert "kubelet-demo-control-plane" in logs
    assert "etcd-demo-worker" in logs
    assert "failed" in logs["kind-export"].read_text()
    engine.says(nodes={})
    with pytest.raises(EnvironmentFailure, match=r'exported no logs .*unknown cluster "demo"'):
        provider.component_logs("demo", tmp_path / "none", timeout_s=60)


@pytest.mark.parametrize("name", ["", "a/b", "..", "Upper", "x" * 51, "a b", "--help"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    """A name that kind would not take, or that would be a path or a flag, is refused before anything is run."""
    provider = KindProvider(Settings(state_dir=tmp_path))
    for call in (provider.attach, provider.images, lambda name: provider.down(name, progress=silent)):
        with pytest.raises(UsageError, match="no name for a kind cluster"):
            call(name)
    assert list(tmp_path.iterdir()) == []


def test_kind_on_path_is_used_where_it_is_new_enough(engine: Engine, real_kind: Path, tmp_path: Path) -> None:
    """The user's own kind comes first; an old or unknown one gives way to the kit's, and that is said."""
    assert Kind.find(load_settings(), silent).path == engine.root / "kind"
    (engine.root / "kind").unlink()
    (engine.root / "kind").write_text("#!/bin/sh\necho kind v0.31.0 go1.25 linux/amd64\n")
    (engine.root / "kind").chmod(0o755)
    own = tmp_path / "own"
    own.mkdir()
    (own / "kind").symlink_to(real_kind)
    said: list[str] = []
    assert Kind.find(Settings(bin_dir=own), said.append).path == own / "kind"
    assert said == [f"{engine.root}/kind is kind 0.31.0, {bundles.KIND} is wanted: the kit's own is used"]


def test_versions_that_fit() -> None:
    """The pinned kind and later ones fit; kubectl fits within one minor version; what is no version fits nothing."""
    assert [fits(version) for version in ("", "0.31.9", "0.32.0", "0.33.1", "1.0.0")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert [kubectl.fits(client, "v1.36.1") for client in ("v1.35.0", "v1.36.3", "v1.37.0+k3s", "v1.34.9", "?")] == [
        *[True] * 3,
        *[False] * 2,
    ]


def test_the_pins_are_those_of_this_kind(real_kind: Path) -> None:
    """The pinned node image is the one that the pinned kind makes clusters of by itself."""
    assert bundles.KIND_NODE_IMAGE.encode() in real_kind.read_bytes()
    said = subprocess.run([real_kind, "version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"kind v{bundles.KIND} ")
