"""The keeper of statuses: what it publishes is never older than what it published, and what it writes gets there."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.applier import Result
from turbo_operator.core.desired import Object, ObjectKey, Options
from turbo_operator.core.graph import Graph, Refusal
from turbo_operator.core.plan import Action
from turbo_operator.statuswriter import StatusWriter


@pytest.fixture
def applier() -> RecordingApplier:
    """An applier that records."""
    return RecordingApplier()


@pytest.fixture
def harness(applier: RecordingApplier) -> Iterator[Harness]:
    """A running reconciler; the keeper's threads are started by the tests that need them."""
    running = Harness(applier)
    running.listen()
    yield running
    running.statuses.stop()
    running.stop()


def _until(what: str, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def _settled(harness: Harness) -> Object:
    """An APIGraph whose objects are all written."""
    name = harness.put(spec(component()))
    harness.reconciler.request(name).result(10)
    obj = harness.graphs.get(name)
    assert obj is not None
    return obj


def _lose_replicas(harness: Harness) -> None:
    deployment = harness.stores["Deployment"].get("deploy-users")
    assert deployment is not None
    metadata = {**deployment["metadata"], "resourceVersion": "1000"}
    state = {**deployment["status"], "availableReplicas": 0}
    harness.stores["Deployment"].put({**deployment, "metadata": metadata, "status": state})


def test_r17_a_slow_computation_never_takes_the_place_of_a_later_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status computed from what was seen before the replicas were lost does not bring Running back."""
    _settled(harness)
    seen, go_on = threading.Event(), threading.Event()
    observed = harness.reconciler.observed

    def slow(name: str, graph: Graph | Refusal) -> dict[ObjectKey, Object]:
        found = observed(name, graph)
        if threading.current_thread().name == "slow":
            seen.set()
            go_on.wait(10)
        return found

    monkeypatch.setattr(harness.reconciler, "observed", slow)
    early = threading.Thread(target=harness.statuses.compute, args=("env-1",), name="slow")
    early.start()
    assert seen.wait(10)
    _lose_replicas(harness)
    assert harness.status()["phase"] == "Deploying"
    go_on.set()
    early.join(10)
    published = harness.statuses.get("env-1")
    assert published is not None
    assert published.status["phase"] == "Deploying"


def test_r24_a_graph_that_goes_while_its_status_is_computed_leaves_none(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slow computation publishes after the end of its graph is not kept, nor counted."""
    _settled(harness)
    observed = harness.reconciler.observed

    def gone_meanwhile(name: str, graph: Graph | Refusal) -> dict[ObjectKey, Object]:
        found = observed(name, graph)
        harness.drop(name)
        for kind, deployed in found:
            harness.stores[kind].remove(deployed, None)
        assert harness.statuses.compute(name) is None
        return found

    monkeypatch.setattr(harness.reconciler, "observed", gone_meanwhile)
    assert harness.statuses.compute("env-1") is None
    assert harness.statuses._snapshots == {}
    assert not any(harness.statuses.phases().values())


def test_a_status_that_rests_on_no_comparison_is_not_written(applier: RecordingApplier) -> None:
    """After a restart the APIGraph keeps what the process before found, until this one has looked for itself."""
    harness = Harness(applier, start=False)
    name = harness.put(spec(component()))
    obj = harness.graphs.get(name)
    assert obj is not None
    harness.writer.write_status(obj, {"phase": "Running", "observedGeneration": 1})
    harness.statuses._keep(name)
    assert _written_phase(harness) == "Running"
    assert harness.status()["phase"] == "Reconciling"
    harness.reconciler._writer.start()
    harness.reconciler.reconcile(name)
    _lose_replicas(harness)
    harness.statuses._keep(name)
    assert _written_phase(harness) == "Deploying"
    harness.stop()


def _written_phase(harness: Harness) -> str | None:
    obj = harness.graphs.get("env-1")
    assert obj is not None
    return (obj.get("status") or {}).get("phase")


@pytest.mark.parametrize("status", [404, 409, 422, 500])
def test_r17_a_status_that_was_not_taken_is_written_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Whatever the answer to a status write, it is tried again, also when nothing else ever changes."""
    write, refused = harness.writer.write_status, threading.Event()

    def refuse_once(obj: Object, computed: dict[str, Any]) -> Result:
        if computed["phase"] == "Running" and not refused.is_set():
            refused.set()
            return Result("conflict", status, message="not now")
        return write(obj, computed)

    monkeypatch.setattr(harness.writer, "write_status", refuse_once)
    harness.statuses.start()
    _settled(harness)
    _until("Running in the APIGraph", lambda: _written_phase(harness) == "Running")
    assert refused.is_set()


def test_r06_status_writes_that_fail_come_less_and_less_often(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait doubles from 0.8 s on, however often the status is said to have changed."""
    tries: list[float] = []

    def refuse(_: Object, __: dict[str, Any]) -> Result:
        tries.append(time.monotonic())
        return Result("failed", 503, message="away")

    monkeypatch.setattr(harness.writer, "write_status", refuse)
    harness.statuses.start()
    _settled(harness)
    deadline = time.monotonic() + 20
    while len(tries) < 3:
        assert time.monotonic() < deadline
        harness.statuses.changed("env-1")
        time.sleep(0.05)
    assert tries[1] - tries[0] >= 0.8
    assert tries[2] - tries[1] >= 1.6


def test_a_status_write_waits_as_long_as_the_api_server_asks(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After holds back the next write of a status that changes meanwhile."""
    tries: list[str] = []

    def refuse(_: Object, computed: dict[str, Any]) -> Result:
        tries.append(computed["phase"])
        return Result("failed", 429, message="too many", retry_after_s=60)

    monkeypatch.setattr(harness.writer, "write_status", refuse)
    harness.statuses.start()
    _settled(harness)
    _until("a first try", lambda: tries)
    _lose_replicas(harness)
    _until("the news", lambda: harness.statuses._snapshots["env-1"].status["phase"] != "Running")
    _until("an idle queue", lambda: not harness.statuses._queue._working)
    assert len(tries) == 1


def test_r17_a_status_that_has_no_room_is_written_in_short(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a large spec the APIGraph still says the truth: phase, counts, and what does not run."""
    write, tries = harness.writer.write_status, []

    def refuse_large(obj: Object, computed: dict[str, Any]) -> Result:
        tries.append(len(computed["componentStatuses"]))
        return write(obj, computed) if tries[-1] <= 100 else Result("failed", 413, message="too large")

    monkeypatch.setattr(harness.writer, "write_status", refuse_large)
    harness.statuses.start()
    name = harness.put(spec(*(component(f"c{n}") for n in range(150)), component("bad", port=0)))
    harness.reconciler.request(name).result(10)
    _until("Degraded in the APIGraph", lambda: _written_phase(harness) == "Degraded")
    _until("an idle queue", lambda: not harness.statuses._queue._due and not harness.statuses._queue._working)
    obj = harness.graphs.get(name)
    assert obj is not None
    assert [row["packageName"] for row in obj["status"]["componentStatuses"]] == ["bad"]
    assert "150 of 151 components run" in next(
        c["message"] for c in obj["status"]["conditions"] if c["type"] == "Ready"
    )
    assert tries.count(151) == 1
    published = harness.statuses.get("env-1")
    assert published is not None
    assert len(published.status["componentStatuses"]) == 151


def test_r17_a_read_tells_the_truth_while_status_writes_hang(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that takes no status for long does not keep a lost replica out of what the HTTP API says."""
    harness.statuses.start()
    _settled(harness)
    _until("Running in the APIGraph", lambda: _written_phase(harness) == "Running")
    go_on, hanging = threading.Event(), []

    def hang(obj: Object, _: dict[str, Any]) -> Result:
        hanging.append(obj)
        go_on.wait(30)
        return Result("failed", message="timed out")

    monkeypatch.setattr(harness.writer, "write_status", hang)
    for n in range(2):
        harness.put(spec(component(f"other-{n}"), environment=f"other-{n}"))
    _until("both threads to hang", lambda: len(hanging) == 2)
    _lose_replicas(harness)

    def published() -> str | None:
        snapshot = harness.statuses.get("env-1")
        return None if snapshot is None else str(snapshot.status["phase"])

    _until("the truth", lambda: published() == "Degraded")
    assert len(hanging) == 2
    go_on.set()


def test_r17_a_graph_that_finalizers_keep_is_written_to_be_deleting(harness: Harness) -> None:
    """During a deletion in the foreground the APIGraph itself says Deleting, not what it said before."""
    harness.statuses.start()
    _settled(harness)
    _until("Running in the APIGraph", lambda: _written_phase(harness) == "Running")
    obj = harness.graphs.get("env-1")
    assert obj is not None
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"], "generation": 2}
    harness.graphs.put(harness.writer._stored({**obj, "metadata": {**obj["metadata"], **going}}))
    _until("Deleting in the APIGraph", lambda: _written_phase(harness) == "Deleting")


def _controller_says(harness: Harness, **counts: int) -> None:
    """What the Deployment controller makes of the one Deployment."""
    deployment = harness.stores["Deployment"].get("deploy-users")
    assert deployment is not None
    metadata = {**deployment["metadata"], "resourceVersion": f"{int(deployment['metadata']['resourceVersion']) + 1}"}
    harness.stores["Deployment"].put({**deployment, "metadata": metadata, "status": counts})


def test_a_rollout_that_no_new_graph_asked_for_is_deploying(harness: Harness, applier: RecordingApplier) -> None:
    """An operator with another stub image rolls the pods: nothing is Degraded until replicas are lost afterwards."""
    name = _settled(harness)["metadata"]["name"]
    harness.status()
    before = harness.stores["Deployment"].get("deploy-users")
    assert before is not None

    def unseen(action: Action) -> Result:
        result = applier.memory.write(action)
        assert result.obj is not None
        return replace(result, obj={**result.obj, "status": before["status"]})

    applier.fault = unseen
    harness.reconciler._options = Options(stub_image="other:1")
    harness.reconciler.request(name).result(10)
    assert applier.verbs()[-1] == "Update Deployment deploy-users"
    every = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    for counts in ({**every, "observedGeneration": 1}, {**every, "replicas": 2}, {**every, "availableReplicas": 0}):
        _controller_says(harness, **counts)
        status = harness.status()
        assert status["phase"] == "Deploying", counts
        assert {c["type"]: c["status"] for c in status["conditions"]}["Progressing"] == "True"
    _controller_says(harness, **every)
    assert harness.status()["phase"] == "Running"
    _controller_says(harness, **{**every, "availableReplicas": 0})
    assert harness.status()["phase"] == "Degraded"


def test_a_new_graph_has_its_first_status_when_there_is_something_to_tell(harness: Harness) -> None:
    """While a new graph is written its first status waits, five seconds at the most; a phase that ends it does not."""
    now = [1000.0]
    obj = _settled(harness)
    running = harness.status()
    working = {**running, "phase": "Reconciling", "componentStatuses": running["componentStatuses"] * 1000}
    writer = StatusWriter(harness.graphs, harness.writer, tell=lambda *_: None, clock=lambda: now[0])
    assert writer.write("env-1", obj, working) == pytest.approx(5.0)
    now[0] += 4.9
    assert writer.write("env-1", obj, working) == pytest.approx(0.1)
    assert _written_phase(harness) is None
    now[0] += 0.1
    assert writer.write("env-1", obj, working) is None
    assert _written_phase(harness) == "Reconciling"
    impatient = StatusWriter(harness.graphs, harness.writer, tell=lambda *_: None)
    assert impatient.write("env-1", obj, running) is None
    assert _written_phase(harness) == "Running"


def test_r17_after_a_restart_a_status_that_is_not_true_any_more_is_written_at_once(harness: Harness) -> None:
    """What an earlier process wrote is not left standing for the sake of fewer writes."""
    obj = _settled(harness)
    running = harness.status()
    StatusWriter(harness.graphs, harness.writer, tell=lambda *_: None).write("env-1", obj, running)
    told = harness.graphs.get("env-1")
    assert told is not None
    later = StatusWriter(harness.graphs, harness.writer, tell=lambda *_: None)
    assert later.write("env-1", told, {**running, "phase": "Deploying"}) is None
    assert _written_phase(harness) == "Deploying"


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ((), "build build-1: it has no components"),
        (("a",), "build build-1: its component runs"),
        (("a", "b"), "build build-1: all 2 components run"),
    ],
)
def test_the_event_of_a_running_graph_counts_its_components(
    harness: Harness, packages: tuple[str, ...], message: str
) -> None:
    """Whoever reads the Events learns how much runs, in words that fit the number."""
    name = harness.put(spec(*map(component, packages)))
    harness.reconciler.request(name).result(10)
    obj, told = harness.graphs.get(name), list[str]()
    assert obj is not None
    writer = StatusWriter(harness.graphs, harness.writer, tell=lambda *news: told.append(news[-1]))
    assert writer.write(name, obj, harness.status()) is None
    assert told == [message]
