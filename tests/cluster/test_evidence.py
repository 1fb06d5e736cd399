"""Recorder and collector against a real API server and kubelet."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence import collector, log_lines, manifest, recorder
from k8s_e2e.evidence.history import event_revisions
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import CustomResource, Profile
from k8s_e2e.model.settings import Settings
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.cluster

CANARY = "canary-7d1f-never-on-disk"
GONE = "canary-of-a-secret-that-is-deleted"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: localhost/busybox:1
      imagePullPolicy: Never
      args: [sh, -c, "SCRIPT"]
"""
CRASHING = "echo begin; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; exit 3"
TALKING = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; sleep 600"
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: KINDs.evidence.example}
spec:
  group: evidence.example
  scope: Namespaced
  names: {kind: KIND, plural: KINDs}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


class Line:
    """A TCP line to the API server that can be cut: connections end, and new ones are refused until it is mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Accept connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        self._open.discard(source)
        source.close()


@pytest.fixture
def settings(local_settings: Settings) -> Settings:
    """Those that the cluster was made with."""
    return local_settings


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """A platform with one kind of custom resource."""
    widget = CustomResource(group="evidence.example", version="v1", kind="widget", plural="widgets")
    return Profile(root=tmp_path, name="p", overlay="o", namespace="n", custom_resources=(widget,))


@pytest.fixture
def run(tmp_path: Path, settings: Settings) -> Iterator[RunDir]:
    """An empty run directory; its recorder ends with the test."""
    (tmp_path / "run").mkdir()
    run = RunDir(tmp_path / "run")
    run.run_json.write_text("{}")
    yield run
    recorder.stop(run, settings)


def start(kubectl: Kubectl, namespace: str, name: str, script: str) -> None:
    """Create a pod that runs ``script``."""
    kubectl("apply", "-n", namespace, "-f", "-", stdin=POD.replace("NAME", name).replace("SCRIPT", script))


def log(run: RunDir, pod: str, name: str = "main.txt") -> list[tuple[int, str]]:
    """Return run number and text of each line recorded of a container."""
    return [(line.run.number if line.run else -1, line.text) for line in log_lines.read(run.pod_logs / pod / name)]


def until_logged(run: RunDir, pod: str, text: str, name: str = "main.txt") -> None:
    """Wait until a line has been recorded."""

    def look() -> bool | Pending:
        lines = [words for _, words in log(run, pod, name)]
        return text in lines or Pending(lines[-1] if lines else "no line")

    wait_for(f"the line {text!r} of {pod}", look, timeout_s=60)


def history(run: RunDir, kind: str, name: str) -> list[dict]:
    """Return the revisions recorded of one object."""
    lines = [msgspec.json.decode(line) for line in run.history.read_bytes().splitlines()]
    return [line for line in lines if (line["kind"], line["name"]) == (kind, name)]


@pytest.mark.parametrize("by", ["files", "api"])
def test_a_pod_deleted_in_mid_run_keeps_its_logs_and_last_state(
    cluster: Cluster, kubectl: Kubectl, namespace: str, busybox: str, run: RunDir, profile: Profile, settings, by: str
) -> None:
    """Nobody can ask the cluster for a pod that is gone; the recorder has its every line and how it ended."""
    seen_as = cluster if by == "files" else msgspec.structs.replace(cluster, pod_logs=None)
    recorder.start(run, seen_as, namespace, profile, settings)
    start(kubectl, namespace, "gone", TALKING)
    until_logged(run, "gone", "line 499")
    kubectl("delete", "pod", "gone", "-n", namespace, "--force", "--grace-period=0")
    kubectl("wait", "--for=delete", "pod/gone", "-n", namespace, "--timeout=30s")

    def reasons() -> set[str]:
        return {event.reason for event in event_revisions(run.events) if event.object == "gone"}

    # the kubelet posts its events after the fact
    wait_for("its end", lambda: "Killing" in reasons() or Pending(str(reasons())), timeout_s=30)
    assert recorder.drain(run, settings)
    assert not recorder.alive(run, settings)
    assert log(run, "gone") == [(0, f"line {number}") for number in range(500)]
    revisions = history(run, "Pod", "gone")
    assert [revisions[0]["change"], revisions[-1]["change"]] == ["ADDED", "DELETED"]
    assert any(revision["object"].get("status", {}).get("phase") == "Running" for revision in revisions)
    assert {"Scheduled", "Started"} <= reasons()


@pytest.mark.parametrize("by", ["files", "api"])
def test_every_run_of_a_crashing_container_is_kept(
    cluster: Cluster, kubectl: Kubectl, namespace: str, busybox: str, run: RunDir, profile: Profile, settings, by: str
) -> None:
    """The first run of a container that has crashed twice since is complete, though the kubelet has thrown it away."""
    seen_as = cluster if by == "files" else msgspec.structs.replace(cluster, pod_logs=None)
    recorder.start(run, seen_as, namespace, profile, settings)
    start(kubectl, namespace, "crashing", CRASHING)

    def restarted() -> bool | Pending:
        statuses = kubectl.get("pod", "crashing", "-n", namespace)["status"].get("containerStatuses") or [{}]
        count = statuses[0].get("restartCount", 0)
        return count >= 2 or Pending(f"{count} restarts")

    wait_for("two restarts", restarted, timeout_s=90)
    recorder.drain(run, settings)
    lines = log(run, "crashing", "main.previous.txt") + log(run, "crashing")
    whole = ["begin", *(f"line {number}" for number in range(300))]
    for number in (0, 1):
        assert [text for run_number, text in lines if run_number == number] == whole


def test_the_recorder_outlives_its_starter_and_a_killed_one_is_taken_up(
    cluster: Cluster, kubectl: Kubectl, namespace: str, run: RunDir, profile: Profile, settings: Settings
) -> None:
    """Who started it may end; after kill -9 a new one goes on, and nothing is written twice."""
    code = (
        "import sys; from pathlib import Path; import msgspec;"
        "from k8s_e2e.cluster.provider import Cluster; from k8s_e2e.evidence import recorder;"
        "from k8s_e2e.model.layout import RunDir; from k8s_e2e.model.profile import Profile;"
        "from k8s_e2e.model.settings import Settings;"
        "cluster = msgspec.json.decode(sys.argv[1], type=Cluster, dec_hook=lambda kind, value: kind(value));"
        "profile = Profile(root=Path('/'), name='p', overlay='o', namespace='n');"
        "run = RunDir(Path(sys.argv[2])); settings = Settings(state_dir=Path(sys.argv[3]));"
        "print(recorder.start(run, cluster, sys.argv[4], profile, settings))"
    )
    told = msgspec.json.encode(cluster, enc_hook=str).decode()
    argv = [sys.executable, "-c", code, told, str(run.root), str(settings.state_dir), namespace]
    starter = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    pid = int(starter.stdout)
    assert recorder.alive(run, settings)
    assert recorder.start(run, cluster, namespace, profile, settings) == pid
    kubectl("create", "configmap", "first", "-n", namespace, "--from-literal=a=b")
    wait_for("the first revision", lambda: bool(history(run, "ConfigMap", "first")) or Pending("none"), timeout_s=10)
    os.kill(pid, signal.SIGKILL)
    wait_for("the end", lambda: not recorder.alive(run, settings) or Pending("alive"), timeout_s=5)
    kubectl("create", "configmap", "second", "-n", namespace, "--from-literal=a=b")
    kubectl("delete", "configmap", "first", "-n", namespace)
    assert recorder.start(run, cluster, namespace, profile, settings) != pid
    recorder.drain(run, settings)
    assert [one["change"] for one in history(run, "ConfigMap", "first")] == ["ADDED", "DELETED"]
    assert [one["change"] for one in history(run, "ConfigMap", "second")] == ["ADDED"]


def test_a_recorder_whose_run_directory_is_removed_ends_by_itself(
    cluster: Cluster, namespace: str, run: RunDir, profile: Profile, settings: Settings
) -> None:
    """Nobody has to remember to stop it."""
    recorder.start(run, cluster, namespace, profile, settings)
    shutil.rmtree(run.root)
    wait_for("its end", lambda: not recorder.alive(run, settings) or Pending("alive"), timeout_s=10)


def test_an_api_server_that_goes_away_and_comes_back_costs_nothing(
    cluster: Cluster,
    kubectl: Kubectl,
    namespace: str,
    run: RunDir,
    profile: Profile,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """What changed while nobody answered is in the record soon after: made, changed and deleted objects."""
    found = re.search(r"https://127\.0\.0\.1:(\d+)", cluster.kubeconfig.read_text())
    assert found
    line = Line(int(found[1]))
    text = cluster.kubeconfig.read_text().replace(found[0], f"https://127.0.0.1:{line.port}")
    (tmp_path / "kubeconfig").write_text(text)
    behind = msgspec.structs.replace(cluster, kubeconfig=tmp_path / "kubeconfig")
    kubectl("create", "configmap", "deleted", "-n", namespace, "--from-literal=a=b")
    recorder.start(run, behind, namespace, profile, settings)
    line.cut()
    kubectl("delete", "configmap", "deleted", "-n", namespace)
    kubectl("create", "configmap", "made", "-n", namespace, "--from-literal=a=b")
    line.mend()

    def caught_up() -> bool | Pending:
        changes = [one["change"] for name in ("made", "deleted") for one in history(run, "ConfigMap", name)]
        return changes == ["ADDED", "ADDED", "DELETED"] or Pending(str(changes))

    wait_for("both changes", caught_up, timeout_s=15)
    recorder.drain(run, settings)
    notes = [json.loads(text)["event"] for text in run.path("logs/recorder.jsonl").read_text().splitlines()]
    assert "watch.failed" in notes
    line.cut()


def served(kubectl: Kubectl, kind: str) -> None:
    """Wait until the API server serves a kind just defined, which may be a moment after it is Established."""
    kubectl("wait", "--for=condition=Established", f"crd/{kind}s.evidence.example", "--timeout=20s")
    wait_for(kind, lambda: kind in kubectl("api-resources", "--api-group=evidence.example") or Pending("not served"),
             timeout_s=20)  # fmt: skip


def test_a_kind_that_appears_later_is_recorded_from_its_first_object(
    cluster: Cluster, kubectl: Kubectl, namespace: str, run: RunDir, settings: Settings, tmp_path: Path
) -> None:
    """The recorder starts before the platform's CRDs are there."""
    kind = CustomResource(group="evidence.example", version="v1", kind="late", plural="lates")
    profile = Profile(root=tmp_path, name="p", overlay="o", namespace="n", custom_resources=(kind,))
    recorder.start(run, cluster, namespace, profile, settings)
    kubectl("apply", "-f", "-", stdin=CRD.replace("KIND", "late"))
    try:
        served(kubectl, "late")
        body = {"apiVersion": "evidence.example/v1", "kind": "late", "metadata": {"name": "one"}}
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body))
        recorder.drain(run, settings)
        assert [one["change"] for one in history(run, "late", "one")] == ["ADDED"]
    finally:
        kubectl("delete", "crd", "lates.evidence.example", "--wait=false")


def test_the_collection_is_complete_sealed_and_free_of_secrets(
    cluster: Cluster, kubectl: Kubectl, namespace: str, busybox: str, run: RunDir, profile: Profile, settings: Settings
) -> None:
    """Every path of the artifact map is there, verifies, and the secret is in none of it."""
    recorder.start(run, cluster, namespace, profile, settings)
    kubectl("apply", "-f", "-", stdin=CRD.replace("KIND", "widget"))
    try:
        served(kubectl, "widget")
        widget = {"apiVersion": "evidence.example/v1", "kind": "widget", "metadata": {"name": "w"}, "status": {"a": 1}}
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(widget))
        kubectl("create", "secret", "generic", "db", "-n", namespace, f"--from-literal=password={CANARY}")
        kubectl("create", "configmap", "leak", "-n", namespace, f"--from-literal=conf={CANARY}")
        kubectl("create", "secret", "generic", "gone", "-n", namespace, f"--from-literal=password={GONE}")
        for name in ("db", "gone"):
            wait_for(name, lambda name=name: bool(history(run, "Secret", name)) or Pending("not seen"), timeout_s=10)
        kubectl("delete", "secret", "gone", "-n", namespace)
        kubectl("create", "configmap", "late", "-n", namespace, f"--from-literal=conf={GONE} and {CANARY}")
        for path in (run.requests, run.kit_log, run.results, run.traces, run.path("logs/build-a.txt")):
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"url": f"http://shop/?key={CANARY}", "msg": f"key {GONE}"}) + "\n")
        start(kubectl, namespace, "talker", f"echo password is {CANARY}; echo done; sleep 600")
        until_logged(run, "talker", "done")
        widget["metadata"] = {"name": "deleted"}
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(widget))
        wait_for("it", lambda: bool(history(run, "widget", "deleted")) or Pending("not seen"), timeout_s=10)
        kubectl("delete", "widget", "deleted", "-n", namespace)
        collected = collector.collect(run, cluster, namespace, profile, None, settings, print)
    finally:
        kubectl("delete", "crd", "widgets.evidence.example", "--wait=false")
    assert {part.name: part.error for part in collected.parts if part.status == "failed"} == {}
    sealed = manifest.seal(run, collected.parts, "r1")
    assert manifest.verify(run) == []
    paths = {entry.path for entry in sealed.files}
    assert {
        "k8s/resources.json",
        "k8s/resources.txt",
        "k8s/widgets.yaml",
        "k8s/events.txt",
        "k8s/events.jsonl",
        "k8s/history.jsonl",
        "k8s/pod-descriptions.txt",
        "k8s/logs/talker/main.txt",
        "k8s/logs-talker.txt",
        "logs/recorder.jsonl",
    } <= paths
    assert {f"logs/cluster-{name}.txt" for name in ("etcd", "kube-apiserver", "kubelet", "containerd")} <= paths
    items = json.loads(run.resources.read_bytes())["items"]
    kinds = {item["kind"] for item in items}
    assert {"Pod", "Secret", "ConfigMap", "widget", "Namespace", "Node", "ServiceAccount"} <= kinds
    widgets = run.path("k8s/widgets.yaml").read_text()
    assert [one["metadata"]["name"] for one in yaml.safe_load_all(widgets)] == ["w"]
    assert "status:" in widgets
    assert "#   name: deleted" in widgets
    assert "Node-Selectors" in run.path("k8s/pod-descriptions.txt").read_text()
    assert "done" in run.path("k8s/logs-talker.txt").read_text()
    grep = ["grep", "-rlF", "-e", CANARY, "-e", GONE, str(run.root)]
    leaks = subprocess.run(grep, capture_output=True, text=True, check=False).stdout
    # the components' own logs are the cluster's, not the namespace's; the API server logs no bodies
    assert leaks == ""
    assert sealed.redactions["db/password"] >= 2
    (hashed,) = {item["data"]["password"] for item in items if item["metadata"]["name"] == "db"}
    assert json.loads(run.requests.read_text())["url"] == f"http://shop/?key={hashed}"
    (late,) = (item["data"]["conf"] for item in items if item["metadata"]["name"] == "late")
    assert json.loads(run.results.read_text())["msg"] == f"key {late.split()[0]}"


def test_a_recorder_that_died_is_told_and_what_it_missed_is_fetched(
    cluster: Cluster, kubectl: Kubectl, namespace: str, busybox: str, run: RunDir, profile: Profile, settings: Settings
) -> None:
    """Its part fails and says since when nothing was recorded; the logs of present pods are whole, each line once."""
    pid = recorder.start(run, cluster, namespace, profile, settings)
    start(
        kubectl,
        namespace,
        "talker",
        "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; sleep 600",
    )
    until_logged(run, "talker", "line 5")
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: not recorder.alive(run, settings) or Pending("alive"), timeout_s=5)
    assert "line 39" not in run.path("k8s/logs/talker/main.txt").read_text()
    kubectl("create", "configmap", "later", "-n", namespace)

    def over() -> bool | Pending:
        said = kubectl("logs", "talker", "-n", namespace)
        return "line 39" in said or Pending(said[-40:])

    wait_for("the last line", over, timeout_s=30)
    collected = collector.collect(run, cluster, namespace, profile, None, settings, print)
    (failed,) = (part for part in collected.parts if part.status == "failed")
    assert failed.name == "recorder"
    assert "died after 20" in failed.error
    assert log(run, "talker") == [(0, f"line {number}") for number in range(40)]
    assert "line 39" in run.path("k8s/logs-talker.txt").read_text()


def test_without_a_recorder_the_logs_come_over_the_api(
    cluster: Cluster, kubectl: Kubectl, namespace: str, busybox: str, run: RunDir, profile: Profile, settings: Settings
) -> None:
    """A run whose recorder was lost still has the present logs and events."""
    start(kubectl, namespace, "talker", "echo hello; sleep 600")
    kubectl("wait", "--for=condition=Ready", "pod/talker", "-n", namespace, "--timeout=30s")
    collected = collector.collect(run, cluster, namespace, profile, None, settings, print)
    assert {part.name: part.error for part in collected.parts if part.status == "failed"} == {}
    assert log(run, "talker") == [(0, "hello")]
    assert "Scheduled" in run.path("k8s/events.txt").read_text()


def test_a_cluster_that_is_gone_costs_a_failed_part_and_nothing_else(
    cluster: Cluster, namespace: str, run: RunDir, profile: Profile, settings: Settings, tmp_path: Path
) -> None:
    """Collecting from nothing ends soon, says why, and can be sealed."""
    text, count = re.subn(r"https://[0-9.]+:\d+", "https://127.0.0.1:1", cluster.kubeconfig.read_text())
    assert count == 1
    (tmp_path / "kubeconfig").write_text(text)
    dead = msgspec.structs.replace(cluster, kubeconfig=tmp_path / "kubeconfig")
    collected = collector.collect(run, dead, namespace, profile, None, settings, print)
    failed = {part.name for part in collected.parts if part.status == "failed"}
    assert {"resources", "pod-descriptions"} <= failed
    assert manifest.seal(run, collected.parts).files
    assert manifest.verify(run) == []
