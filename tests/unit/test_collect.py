"""Collecting when little or nothing answers, and again: all that there is gets sealed; what was sealed stays."""

import fcntl
import http.server
import json
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from k8s_e2e.base import clock, files
from k8s_e2e.cli import cli
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence import collector, manifest, recorder, resources
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Manifest, Part
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import CollectParameters
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.kube import ApiError, Resource
from k8s_e2e.stages import collect as stage
from k8s_e2e.stages.collect import complete_seal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings with a state directory of the test's own."""
    monkeypatch.setenv("K8S_E2E_STATE_DIR", str(tmp_path / "state"))
    return Settings()


@pytest.fixture
def run(tmp_path):
    """A run that was tested, and collected without loss."""
    run = RunDir.claim(tmp_path / "run")
    record = RunRecord(run_id="run-1", provider="local", cluster="nosuch")
    for name in ("deploy", "test", "collect"):
        record.put(StageOutcome(name=name, status="passed", started=clock.now(), duration_s=1.0))
    files.write_json(run.run_json, record)
    files.write(run.path("k8s/events.txt"), "an event\n")
    manifest.seal(
        run,
        [Part(name="events", status="ok", duration_s=0.1), Part(name="nodes", status="denied", duration_s=0.1)],
        "run-1",
    )
    return run


def test_a_complete_seal_stays(run, settings):
    """`stage collect` again changes no file of a run whose every part was collected, or was denied."""
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    done = CliRunner().invoke(cli, ["stage", "collect", "--run-dir", str(run.root)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "everything was collected by 20" in done.output
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before


def test_without_a_seal_there_is_all_to_collect(run, settings):
    """A run that was stopped before its seal is collected."""
    run.manifest.unlink()
    assert complete_seal(run, settings) is None


def test_what_failed_is_collected_again(run, settings):
    """A part that failed may succeed now."""
    manifest.seal(run, [Part(name="events", status="failed", duration_s=0.1, error="timed out")], "run-1")
    assert complete_seal(run, settings) is None


def test_what_no_recorder_saw_is_not_collected_again(run, settings):
    """A recorder that ended early has missed what is over; all else is there."""
    manifest.seal(run, [Part(name="recorder", status="failed", duration_s=0.1, error="it died")], "run-1")
    assert complete_seal(run, settings) is not None


@pytest.mark.parametrize("stage", ["deploy", "test"])
def test_what_ran_since_is_collected(run, settings, stage):
    """A deploy or test that began after the seal has left something new."""
    record = RunRecord(run_id="run-1")
    record.put(StageOutcome(name=stage, status="failed", started=clock.now(), duration_s=1.0))
    files.write_json(run.run_json, record)
    assert complete_seal(run, settings) is None


def test_a_run_that_is_being_recorded_is_collected(run, settings):
    """While its recorder lives, a run goes on, whatever run.json says."""
    state = recorder.place(run, settings)
    state.mkdir(parents=True)
    with (state / "alive").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert complete_seal(run, settings) is None
    assert complete_seal(run, settings) is not None


class Handler(http.server.BaseHTTPRequestHandler):
    """An API server that is starting: it refuses ``server.refused`` requests, then knows a namespace of nobody."""

    def do_GET(self):
        """Answer."""
        ready = self.server.refused <= 0
        self.server.refused -= 1
        body = {"kind": "Namespace", "metadata": {"name": "n"}} if ready else {"kind": "Status", "message": "starting"}
        self.send_response(200 if ready and self.path.count("/") == 4 else 404 if ready else 503)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture
def api(tmp_path, settings, monkeypatch):
    """An API server that a run's cluster has, and the kit waits for it only a moment."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.refused = 0
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        files.write_json(tmp_path / "kubeconfig", config)
        cluster = Cluster(name="c", provider="local", kubeconfig=tmp_path / "kubeconfig", kubectl=Path("/nowhere"))
        monkeypatch.setattr(stage.session, "attach", lambda *_: cluster)
        monkeypatch.setattr(stage, "ANSWER_TIMEOUT_S", 0.3)
        yield server
        server.shutdown()


def collected(run):
    """Run the stage; return status by part of the seal."""
    stage.collect(CollectParameters(run_dir=str(run.root), profile=str(ROOT / "k8s-e2e.toml")))
    return {part.name: part.status for part in io.load(run.manifest, Manifest).parts}


def test_an_api_server_that_is_starting_is_waited_for(run, api, monkeypatch):
    """A request that fails once does not cost the evidence."""
    run.manifest.unlink()
    monkeypatch.setattr(stage, "ANSWER_TIMEOUT_S", 60.0)
    api.refused = 2
    assert collected(run) == {"namespace": "skipped", "recorder": "ok", "redaction": "ok"}


def test_without_an_answer_what_there_is_gets_sealed(run, api):
    """An API server that stays away is a failed part, as a cluster that is gone."""
    run.manifest.unlink()
    api.refused = 10**9
    assert collected(run) == {"namespace": "failed", "recorder": "ok", "redaction": "ok"}
    assert "starting" in io.load(run.manifest, Manifest).parts[0].error
    assert manifest.verify(run) == []


def test_without_an_answer_an_earlier_seal_stays(run, api):
    """What was collected before is not replaced by nothing."""
    manifest.seal(run, [Part(name="events", status="failed", duration_s=0.1, error="timed out")], "run-1")
    before = run.manifest.read_bytes()
    api.refused = 10**9
    assert collected(run) == {"events": "failed"}
    assert run.manifest.read_bytes() == before


def test_an_earlier_seal_goes_if_the_run_went_on(run, api):
    """The old seal does not hold for the results of a test that ran since: they are sealed with what there is."""
    record = io.load(run.run_json, RunRecord)
    record.put(StageOutcome(name="test", status="failed", started=clock.now(), duration_s=1.0))
    files.write_json(run.run_json, record)
    files.write(run.results, "{}")
    api.refused = 10**9
    assert collected(run) == {"namespace": "failed", "recorder": "ok", "redaction": "ok"}
    assert manifest.verify(run) == []


def test_a_defect_in_one_part_does_not_cost_the_seal(run, api, monkeypatch):
    """Whatever is raised by the export of traces: the part fails, the others are done, all is sealed."""
    run.manifest.unlink()
    monkeypatch.setattr(stage.namespace, "belongs_to", lambda *_: True)
    monkeypatch.setattr(stage.gate, "export", lambda *_: {}["no such key"])
    statuses = collected(run)
    assert statuses["traces"] == "failed"
    assert statuses["container-logs"] == "ok"


def test_what_is_read_after_the_deadline_is_not_taken(run, api, monkeypatch):
    """A listing that comes late has seen no cleaning: its Secrets reach no file, and it is recorded once, as failed."""
    run.manifest.unlink()
    monkeypatch.setenv("K8S_E2E_COLLECT_TIMEOUT_S", "0.3")
    monkeypatch.setattr(stage.namespace, "belongs_to", lambda *_: True)
    cleaned = threading.Event()
    late = []

    def fetch(*_, **__):
        late.append(threading.current_thread())
        assert cleaned.wait(30)
        secret = Resource("", "v1", "Secret", "secrets", namespaced=True)
        item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "aHVudGVyMg=="}}
        return [resources.Listing(secret, [item], {})]

    def sweep(*_):
        cleaned.set()
        late[0].join(30)
        assert not late[0].is_alive()
        return 0

    monkeypatch.setattr(collector.resources, "fetch", fetch)
    monkeypatch.setattr(collector, "sweep", sweep)
    collected(run)
    assert "aHVudGVyMg==" not in run.resources.read_text()
    parts = [part for part in io.load(run.manifest, Manifest).parts if part.name == "resources"]
    assert [(part.status, part.error) for part in parts] == [("failed", "not done within 0.3 s (collect_timeout_s)")]


def test_the_logs_of_many_containers_together_keep_the_deadline(run, api, monkeypatch):
    """Logs that hang cost the collection no more than the time that is left for all; what was not asked for failed."""
    run.manifest.unlink()
    monkeypatch.setenv("K8S_E2E_COLLECT_TIMEOUT_S", "1")
    monkeypatch.setattr(collector, "ENDPOINT_S", 0.5)
    monkeypatch.setattr(stage.namespace, "belongs_to", lambda *_: True)
    entry = {"restartCount": 0, "state": {"running": {}}}
    status = {"containerStatuses": [{**entry, "name": f"c{number}"} for number in range(100)]}
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": status}
    kind = Resource("", "v1", "Pod", "pods", namespaced=True)
    monkeypatch.setattr(collector.resources, "fetch", lambda *_, **__: [resources.Listing(kind, [dict(pod)], {})])
    asked, given = [], []

    def hang(*_, inactivity_s, **__):
        asked.append(inactivity_s)
        time.sleep(0.2)
        raise ApiError(0, "", "timed out")

    def component_logs(*_, timeout_s):
        given.append(timeout_s)
        return {}

    monkeypatch.setattr(collector.Kube, "logs", hang)
    monkeypatch.setattr(LocalProvider, "component_logs", component_logs)
    collected(run)
    parts = {part.name: part for part in io.load(run.manifest, Manifest).parts}
    assert parts["container-logs"].error.startswith("100 container logs could not be read")
    assert 1 <= len(asked) <= 6
    assert all(seconds <= 1 for seconds in asked + given)
    assert given
