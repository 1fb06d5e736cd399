"""The network between the operator's own pod and the API server is cut in the midst of an update, on a real node.

Nobody is told: what the pod sends is dropped, and so is what comes for it. The connections of before the cut stay dead
after it, as behind a firewall that has forgotten them; only new ones get through.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from sandbox import MANIFESTS, Sandbox, make_sandbox, wait
from specs import moving

from k8s_e2e.cluster import assets
from k8s_e2e.cluster.image_builds import ImageBuilds
from k8s_e2e.cluster.images import load_and_verify
from k8s_e2e.cluster.local import teardown
from k8s_e2e.cluster.local.layout import KUBERNETES_IP
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import can_run_local
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.settings import Settings
from turbo_operator.kube.client import APPLY, ApiError

pytestmark = [pytest.mark.soak, pytest.mark.cluster]

_ROOT = Path(__file__).parents[2]
_SIZE = 60
_HELD_S = 165.0
"""Longer than what /healthz calls stuck (120 s without progress) and the three failed probes of a restart."""
_UNREADY_S = 70.0
"""A watch heard of just before is given up after 55 s, and three probes find that out; else it would take 78 s."""
_REPAIRED_S = 75.0
_TABLE = "table ip cut"
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Pod:
    """The operator's pod, as its API server and its node know it."""

    sandbox: Sandbox
    name: str
    uid: str
    address: str
    node: int
    """A process in the network namespace of the node, which is the API server's, too."""
    nft: Path

    def get(self, path: str) -> Any:
        """JSON of a GET to it: the API server asks it, on connections that a cut leaves alone."""
        return self.sandbox.admin.request("GET", f"{_pods(self.sandbox)}/{self.name}:8084/proxy{path}")

    def actions(self, since: int = 0) -> list[dict[str, Any]]:
        """Its finished writes after number `since`."""
        return list(self.get(f"/v1/actions?since={since}")["actions"])

    def lives(self) -> str:
        """What /healthz says."""
        try:
            return str(self.get("/healthz")["status"])
        except ApiError as error:
            return str(error)

    def cut(self) -> set[int]:
        """Drop every packet from and to the API server; gives the ports of the connections that are open then."""
        self._drop()
        rows = [line.split() for line in Path(f"/proc/{self._process()}/net/tcp").read_text().splitlines()[1:]]
        server = "".join(f"{int(part):02X}" for part in reversed(KUBERNETES_IP.split(".")))
        opened = [row[1] for row in rows if row[2].startswith(f"{server}:") and row[3] == _ESTABLISHED]
        return {int(local.rpartition(":")[2], 16) for local in opened}

    def heal(self, dead: set[int]) -> None:
        """Let packets pass again but for the connections with these ports of the pod."""
        ports = ", ".join(map(str, sorted(dead)))
        self._drop(f"tcp sport {{ {ports} }}", f"tcp dport {{ {ports} }}")

    def _drop(self, leaving: str = "", arriving: str = "") -> None:
        """Drop packets where they arrive, in the node and in the pod: a sender would hear of it at its own end."""
        self._filter(self.node, f"ip saddr {self.address} ip daddr {KUBERNETES_IP} {leaving}")
        self._filter(self._process(), f"ip saddr {KUBERNETES_IP} {arriving}")

    def _filter(self, process: int, dropped: str) -> None:
        """Replace, at one moment, what is dropped in the network namespace of a process."""
        rules = f"""
            {_TABLE}
            delete {_TABLE}
            {_TABLE} {{ chain arriving {{ type filter hook prerouting priority raw; {dropped} counter drop; }}; }}
        """
        argv = ["nsenter", f"--net=/proc/{process}/ns/net", str(self.nft), "-f", "-"]
        done = subprocess.run(argv, input=rules, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"nft: {done.stderr}"

    def _process(self) -> int:
        """A process of the pod, as the host counts: kubelet names control groups by uid."""
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdecimal() and self.uid in (process / "cgroup").read_text().replace("_", "-"):
                    return int(process.name)
        raise LookupError(f"no process of pod {self.uid}")


@dataclass
class Outage:
    """What was seen of a cut in the midst of an update, and after it."""

    pod: Pod
    unready_after_s: float | None = None
    """How long after the cut the pod was not ready; None if it never was."""
    ready_again: bool = False
    """Whether it was ready, once unready, while the cut lasted."""
    health: set[str] = field(default_factory=set)
    """All that /healthz said."""
    pods: set[tuple[str, int]] = field(default_factory=set)
    """All pods of the operator that there were, by uid, with their restarts."""
    landed: dict[tuple[str, str], str] = field(default_factory=dict)
    """The objects that were as they should be when the cut ended, with their versions."""
    left: int = 0
    """The number of writes that were left to do then."""
    repaired_s: float | None = None
    """How long after the cut all was done, told and the pod ready; None if it was not in time."""
    last: str = ""
    """What was still wrong when it was looked at last."""
    actions: list[dict[str, Any]] = field(default_factory=list)
    """The finished writes of the update."""

    def look(self) -> bool:
        """Look at the operator's pods; tells whether there is one, and ready."""
        found = _found(self.pod.sandbox)
        for pod in found:
            restarts = sum(each["restartCount"] for each in pod["status"].get("containerStatuses") or ())
            self.pods.add((pod["metadata"]["uid"], restarts))
        self.health.add(self.pod.lives())
        return len(found) == 1 and _ready(found[0])

    def wrong(self) -> str:
        """What keeps the update from being complete; empty if nothing."""
        sandbox = self.pod.sandbox
        if not self.look():
            return "the pod is not ready"
        if left := sandbox.outstanding():
            return f"{len(left)} writes are left"
        graph = sandbox.get("APIGraph", "env-1") or {}
        status = graph.get("status") or {}
        said = {each["type"]: each["status"] for each in status.get("conditions") or ()}
        seen = (status.get("buildId"), status.get("phase"), status.get("observedGeneration"))
        wanted = ("build-1", "Running", graph["metadata"]["generation"])
        true = all(said.get(each) == "True" for each in ("Accepted", "Applied", "Ready"))
        return "" if seen == wanted and true else f"the status is {seen} with {said}"


def _pods(sandbox: Sandbox) -> str:
    return f"/api/v1/namespaces/{sandbox.namespace}/pods"


def _found(sandbox: Sandbox) -> list[dict[str, Any]]:
    labels = {"labelSelector": "app.kubernetes.io/name=operator"}
    return list(sandbox.admin.request("GET", _pods(sandbox), query=labels)["items"])


def _ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions") or ()}
    return conditions.get("Ready") == "True"


def _deployed(sandbox: Sandbox, cluster: Cluster, nft: Path) -> Pod:
    """The operator as the overlay has it, but for the platform around it."""
    overlay = MANIFESTS.parent / "overlays" / "ci"
    rendered = subprocess.run([cluster.kubectl, "kustomize", overlay], capture_output=True, check=True).stdout
    (deployment,) = [
        each
        for each in yaml.safe_load_all(rendered)
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "operator")
    ]
    del deployment["metadata"]["namespace"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        if variable["name"] in {"BUILDER_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"}:
            variable["value"] = ""
    path = sandbox.admin.path("Deployment", "operator")
    sandbox.admin.request("PATCH", path, query={"fieldManager": "test"}, body=deployment, content_type=APPLY)
    wait("the operator's pod to be ready", lambda: [each for each in _found(sandbox) if _ready(each)], 120)
    (pod,) = _found(sandbox)
    node = teardown.processes(cluster.kubeconfig.parent)[-1]
    return Pod(sandbox, pod["metadata"]["name"], pod["metadata"]["uid"], pod["status"]["podIP"], node, nft)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The operator's pod on a cluster of its own with a node."""
    if not can_run_local():
        pytest.skip("a local cluster needs root on Linux")
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"))
    profile = load_profile(_ROOT / "k8s-e2e.toml")
    (build,) = [each for each in profile.images if each.context == "operator"]
    (logs := tmp_path_factory.mktemp("logs")).chmod(0o700)
    built = ImageBuilds(settings, logs=logs, progress=print).images(build, profile.root)
    nft = assets.ensure(["netfilter"], settings, print).path("netfilter") / "nft"
    provider, name = LocalProvider(settings), "operator-pod"
    try:
        cluster = provider.up(name, progress=print)
        load_and_verify(provider, name, built, print)
        sandbox = make_sandbox(cluster.kubeconfig, "operator-pod", tmp_path_factory.mktemp("sandbox"))
        yield _deployed(sandbox, cluster, nft)
    finally:
        provider.down(name, progress=print)


@pytest.fixture(scope="module")
def outage(pod: Pod) -> Outage:
    """A cut in the midst of an update, held longer than anything that may lose patience, and the time after it."""
    seen = Outage(pod)
    pod.sandbox.apply(moving(_SIZE, 0))
    wait("the first build to be carried out", lambda: pod.sandbox.written_phase("env-1") == "Running", 120)
    before = len(pod.actions())
    pod.sandbox.replace(moving(_SIZE, 1))
    wait("the first writes", lambda: len(pod.actions(before)) > 20)
    dead = pod.cut()
    started = time.monotonic()
    while (held_s := time.monotonic() - started) < _HELD_S:
        ready = seen.look()
        if not ready and seen.unready_after_s is None:
            seen.unready_after_s = held_s
        seen.ready_again |= ready and seen.unready_after_s is not None
        time.sleep(1)
    left = {(each.kind, each.name) for each in pod.sandbox.outstanding()}
    seen.left = len(left)
    children = pod.sandbox.children().keys()
    versions = pod.sandbox.versions()
    seen.landed = {key: versions[key] for key in children - left}
    pod.heal(dead)
    started = time.monotonic()
    while seen.repaired_s is None and time.monotonic() - started < _REPAIRED_S:
        seen.last = seen.wrong()
        if not seen.last:
            seen.repaired_s = time.monotonic() - started
        time.sleep(0.2)
    seen.actions = pod.actions(before)
    unready = "never" if seen.unready_after_s is None else f"after {seen.unready_after_s:.0f} s"
    repaired = seen.last if seen.repaired_s is None else f"done {seen.repaired_s:.1f} s after the cut"
    print(  # noqa: T201 - what it has met
        f"{len(dead)} connections were cut, unready {unready}, {seen.left} writes left, {repaired};"
        f" {len(seen.actions)} actions, {sum(a['outcome'] == 'unknown' for a in seen.actions)} of them unknown"
    )
    return seen


def test_r22_a_cut_makes_the_pod_unready_and_never_restarts_it(outage: Outage) -> None:
    """Cut off for 165 s the pod is not ready and stays so, alive all the while: the same container, no failed probe."""
    assert outage.unready_after_s is not None
    assert outage.unready_after_s < _UNREADY_S
    assert not outage.ready_again
    assert outage.health == {"ok"}
    assert outage.pods == {(outage.pod.uid, 0)}
    events = [each for each in outage.pod.sandbox.list("Event") if each["involvedObject"].get("uid") == outage.pod.uid]
    failed = [each["message"] for each in events if each["reason"] == "Unhealthy"]
    assert any(message.startswith("Readiness") for message in failed)
    assert not [message for message in failed if message.startswith("Liveness")]


def test_r06_it_is_ready_and_the_update_complete_in_75_s_after_a_cut(outage: Outage) -> None:
    """Although its old connections stay dead, all that was left is done, the status true and the pod ready."""
    assert outage.left, "the cut came too late"
    assert outage.repaired_s is not None, outage.last
    found = [obj["metadata"] for obj in outage.pod.sandbox.list("Deployment")]
    generations = {each["name"]: each["generation"] for each in found if each["name"] != "operator"}
    assert generations == {f"deploy-c{n}": 1 if n >= _SIZE else 2 for n in range(2, _SIZE + 2)}


def test_r06_nothing_is_written_twice_for_a_cut(outage: Outage) -> None:
    """Lost answers are read back: what had landed keeps its version, and nothing is done a second time."""
    assert outage.landed, "the cut came too early"
    versions = outage.pod.sandbox.versions()
    assert {key: versions.get(key) for key in outage.landed} == outage.landed
    outcomes: dict[tuple[str, str], list[str]] = {}
    for action in outage.actions:
        outcomes.setdefault((action["resource_kind"], action["resource_name"]), []).append(action["outcome"])
    assert any("unknown" in row for row in outcomes.values()), "no write was on its way when the cut came"
    for key, row in outcomes.items():
        # A Create that landed and was sent again before it could be read back finds its own object: a conflict.
        assert row[-1] == "ok" or (row[-1] == "conflict" and "unknown" in row), (key, row)
        assert row.count("ok") <= 1, (key, row)
    numbers = [action["seq"] for action in outage.actions]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
