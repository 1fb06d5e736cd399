"""The loop with faults between it and the API server."""

import copy
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import Harness, RecordingApplier
from specs import component, contents, spec

from turbo_operator.actions import ActionLog
from turbo_operator.applier import NoopApplier, Result
from turbo_operator.core import names
from turbo_operator.core.desired import ObjectKey
from turbo_operator.core.plan import Action, plan
from turbo_operator.reconciler import StoppedError


@pytest.fixture
def applier() -> RecordingApplier:
    """An applier that records."""
    return RecordingApplier()


@pytest.fixture
def harness(applier: RecordingApplier) -> Iterator[Harness]:
    """A running reconciler over it."""
    running = Harness(applier)
    yield running
    running.stop()


def _until(what: str, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def _fail(*keys: ObjectKey, **result: Any) -> Any:
    return lambda action: (
        Result(**{"outcome": "failed", "http_status": 500, "message": "boom", **result}) if action.key in keys else None
    )


def test_r01_a_second_look_writes_nothing(harness: Harness, applier: RecordingApplier) -> None:
    """Reconciling a graph that is as it should be makes no write."""
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    assert len(applier.writes) == 3
    assert harness.reconciler.reconcile(name) == []
    assert len(applier.writes) == 3
    assert harness.status()["phase"] == "Running"


_CRASH = spec(component("a", env={"K": "1"}), component("b"))
_NEXT = spec(component("a", env={"K": "2"}, replicas=2), component("c"), build="build-2")


class _Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, 9))
def test_r02_a_kill_at_any_write_ends_in_the_same_state(point: int, *, landed: bool) -> None:
    """Killed before or after each write of an update, a new process ends where an undisturbed one does."""
    undisturbed, memory = NoopApplier(), NoopApplier()
    for store in (undisturbed, memory):
        _run(RecordingApplier(store), _CRASH)
    uid = next(iter(memory.objects.values()))["metadata"]["ownerReferences"][0]["uid"]
    _run(RecordingApplier(undisturbed), _NEXT)

    count = 0

    def crash(action: Action) -> Result | None:
        nonlocal count
        count += 1
        if count < point:
            return None
        if count == point and landed:
            memory.write(action)
        raise _Crash

    with pytest.raises(_Crash):
        _run(RecordingApplier(memory, crash), _NEXT, uid)
    _run(RecordingApplier(memory), _NEXT, uid)
    assert _without_owner(memory) == _without_owner(undisturbed)


def _run(applier: RecordingApplier, value: dict[str, Any], uid: str | None = None) -> None:
    """One process: lists, reconciles twice (deletes of a replacement need a second look), ends; writes in order."""
    harness = Harness(applier, start=False)
    harness.feed(applier.memory)
    name = harness.put(value)
    obj = harness.graphs.get(name)
    assert obj is not None
    if uid is None and applier.memory.objects:
        uid = next(iter(applier.memory.objects.values()))["metadata"]["ownerReferences"][0]["uid"]
    if uid is not None:
        changed = {**obj["metadata"], "uid": uid, "resourceVersion": "100000"}
        harness.graphs.put({**obj, "metadata": changed})
    harness.reconciler._writer._pool = _Inline()  # type: ignore[assignment]
    for _ in range(2):
        harness.reconciler.reconcile(name)


class _Inline:
    """A pool that works at once, in the caller's thread, so that a crash is at one point."""

    def submit(self, _: str, task: Any) -> Any:
        result = task()
        return type("Done", (), {"cancelled": lambda _: False, "result": lambda _: result})()


def _without_owner(memory: NoopApplier) -> dict[Any, Any]:
    found = contents(memory)
    for obj in found.values():
        obj["metadata"]["ownerReferences"][0].pop("uid", None)
        obj["metadata"].pop("ownedFields", None)
    return found


def test_r03_a_restart_makes_no_write(applier: RecordingApplier) -> None:
    """A new process that finds everything as it should be writes nothing, and says Running after one look."""
    first = Harness(applier)
    name = first.put(spec(component()))
    first.reconciler.reconcile(name)
    first.graphs.put(first.writer.write_status(first.graphs.get(name) or {}, first.status()).obj or {})
    graph = first.graphs.get(name)
    first.stop()
    applier.writes.clear()
    second = Harness(applier)
    second.statuses._clock = lambda: 2_000_000_000.0
    second.feed(applier.memory)
    assert graph is not None
    second.graphs.put(graph)
    assert second.status()["phase"] == "Reconciling"
    second.reconciler.request(name).result(5)
    assert applier.writes == []
    assert second.status() == graph["status"]  # the times of transitions included
    second.stop()


def test_r08_children_of_a_graph_being_deleted_are_not_made_again(harness: Harness, applier: RecordingApplier) -> None:
    """Nothing is written for a graph with a deletion timestamp, nor for one that went away during the apply."""
    name = harness.put(spec(component()))
    obj = harness.graphs.get(name)
    assert obj is not None
    metadata = {**obj["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1000"}
    harness.graphs.put({**obj, "metadata": metadata})
    assert harness.reconciler.reconcile(name) == []
    assert harness.status()["phase"] == "Deleting"
    other = harness.put(spec(component("other"), environment="env-2"))

    def vanish(action: Action) -> None:
        if action.kind == "ConfigMap":
            harness.drop("env-2")

    applier.fault = vanish
    harness.reconciler.reconcile(other)
    assert applier.verbs() == ["Create ConfigMap cm-other"]


@pytest.mark.parametrize("left", ["nothing", "what finalizers keep", "another one"])
def test_r08_what_garbage_collection_removed_is_not_made_again_for_a_graph_whose_end_was_not_heard_of(
    harness: Harness, applier: RecordingApplier, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """The watches are heard in any order: an APIGraph whose objects are missing is asked for before they are made."""
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    obj = harness.graphs.get(name)
    assert obj is not None
    late = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if left == "what finalizers keep" else {"uid": "another"}
    newer = {**obj, "metadata": {**obj["metadata"], **late, "resourceVersion": "1000"}}
    answer = Result("ok", obj=None if left == "nothing" else newer)
    monkeypatch.setattr(harness.writer, "read", lambda _: answer)
    applier.writes.clear()
    harness.stores["Service"].remove("svc-users", None)
    assert harness.reconciler.reconcile(name) == []
    assert applier.writes == []
    assert harness.graphs.get(name) == (None if left == "nothing" else newer)


def test_r08_nothing_missing_is_made_again_before_it_is_known_that_the_graph_is_still_there(
    harness: Harness, applier: RecordingApplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer it is told, and asked again less and less often; all else is written, a new graph at once."""
    read, unread = harness.writer.read, Result("unknown", message="away")
    monkeypatch.setattr(harness.writer, "read", lambda _: unread)
    name = harness.put(spec(component()))
    assert len(harness.reconciler.reconcile(name)) == 3
    applier.writes.clear()
    harness.stores["Service"].remove("svc-users", None)
    applier.memory.objects.pop(("Service", "svc-users"))
    harness.put(spec(component(), component("other", replicas=0), build="build-2"))
    deployment = harness.stores["Deployment"].get("deploy-users")
    assert deployment is not None
    drifted = {**deployment, "spec": {**deployment["spec"], "replicas": 7}}
    harness.stores["Deployment"].put({**drifted, "metadata": {**drifted["metadata"], "resourceVersion": "1000"}})
    harness.reconciler.reconcile(name)
    assert applier.verbs() == ["Update Deployment deploy-users"]
    status = harness.status()
    assert status["phase"] == "Degraded"
    assert "whether the APIGraph is still there is not known: away" in status["componentStatuses"][-1]["message"]
    memory = harness.reconciler._memories[name]
    assert memory.retry_in_s(harness.now) == pytest.approx(0.8)
    harness.now += 0.8
    unread = Result("unknown", message="too many requests", retry_after_s=30)
    harness.reconciler.reconcile(name)
    assert memory.retry_in_s(harness.now) == pytest.approx(30)
    monkeypatch.setattr(harness.writer, "read", read)
    harness.now += 30
    applier.writes.clear()
    harness.reconciler.reconcile(name)
    assert "Create Service svc-users" in applier.verbs()
    assert harness.status()["phase"] == "Running"


def test_r23_whoever_waits_for_a_reconcile_is_told_that_the_operator_stops(applier: RecordingApplier) -> None:
    """At the end no request is left waiting: neither one in the queue nor one that comes later."""
    harness = Harness(applier)
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Action) -> None:
        begun.set()
        go_on.wait(10)

    applier.fault = hold
    names_ = [harness.put(spec(component(f"c{n}"), environment=f"env-{n}")) for n in range(20)]
    waiting = [harness.reconciler.request(name) for name in names_]
    assert begun.wait(10)

    def release() -> None:
        harness.reconciler._stopping.wait(10)
        go_on.set()

    releasing = threading.Thread(target=release)
    releasing.start()
    harness.stop()
    releasing.join()
    waiting.append(harness.reconciler.request(names_[0]))
    told = [future.exception(timeout=10) for future in waiting]
    assert {type(error) for error in told} <= {type(None), StoppedError}
    assert [type(error) for error in told[-5:]] == [StoppedError] * 5  # sixteen workers may have begun


def test_r01_what_no_event_tells_of_is_noticed_by_the_next_look(
    harness: Harness, applier: RecordingApplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of which nothing is heard is compared again by and by."""
    monkeypatch.setattr("turbo_operator.reconciler._RESYNC_S", 0.1)
    name = harness.put(spec(component()))
    harness.reconciler.request(name).result(10)
    service = harness.stores["Service"].get("svc-users")
    assert service is not None
    made = threading.Event()
    applier.fault = lambda action: made.set() if action.key == ("Service", "svc-users") else None
    del applier.memory.objects["Service", "svc-users"]
    harness.stores["Service"].remove("svc-users", service["metadata"]["uid"])  # nobody listens
    assert made.wait(10)


def test_r16_one_failed_write_does_not_stop_the_others(harness: Harness, applier: RecordingApplier) -> None:
    """Of two components one fails: the other is complete, the failure is told, and only it is tried again, later."""
    applier.fault = _fail(("Service", "svc-a"))
    name = harness.put(spec(component("a"), component("b")))
    records = harness.reconciler.reconcile(name)
    assert {r["resource_name"] for r in records if r["outcome"] == "ok"} == {
        "cm-a",
        "deploy-a",
        "cm-b",
        "svc-b",
        "deploy-b",
    }
    status = harness.status()
    assert status["phase"] == "Degraded"
    assert "boom" in status["componentStatuses"][0]["message"]
    assert ("Warning", "WriteFailed") in {event[:2] for event in harness.events}
    applier.writes.clear()
    assert harness.reconciler.reconcile(name) == []  # not yet due
    applier.fault = None
    harness.now += 1
    harness.reconciler.reconcile(name)
    assert applier.verbs() == ["Create Service svc-a"]
    assert harness.status()["phase"] == "Running"


def test_r16_the_backoff_of_an_object_doubles_and_a_new_spec_is_tried_at_once(
    harness: Harness, applier: RecordingApplier
) -> None:
    """Tries of an object that keeps failing come less and less often; Retry-After and a changed spec are heeded."""
    applier.fault = _fail(("ConfigMap", "cm-users"))
    name = harness.put(spec(component(env={"A": "1"})))
    waits = []
    for _ in range(4):
        harness.reconciler.reconcile(name)
        wait = harness.reconciler._memories[name].retry_in_s(harness.now)
        assert wait is not None
        waits.append(round(wait, 3))
        harness.now += wait
    assert waits == [0.8, 1.6, 3.2, 6.4]
    applier.fault = _fail(("ConfigMap", "cm-users"), retry_after_s=30.0, http_status=429)
    harness.reconciler.reconcile(name)
    assert harness.reconciler._memories[name].retry_in_s(harness.now) == pytest.approx(30)
    applier.fault = None
    harness.put(spec(component(env={"A": "2"}), build="build-2"))
    harness.reconciler.reconcile(name)
    assert harness.status()["phase"] == "Running"


@pytest.mark.parametrize(("http_status", "longest_s"), [(503, 60.0), (0, 15.0)])
def test_r06_the_end_of_an_outage_is_noticed_soon(
    harness: Harness, applier: RecordingApplier, http_status: int, longest_s: float
) -> None:
    """However long no answer came, the next try is at most 15 seconds away; after an answer it may be a minute."""
    applier.fault = _fail(("ConfigMap", "cm-users"), http_status=http_status)
    name = harness.put(spec(component(env={"A": "1"})))
    for _ in range(12):
        harness.reconciler.reconcile(name)
        wait = harness.reconciler._memories[name].retry_in_s(harness.now)
        assert wait is not None
        harness.now += wait
    assert wait == pytest.approx(longest_s)


def test_r06_a_deployment_that_waits_for_its_configmap_is_no_reason_to_come_again_at_once(
    harness: Harness, applier: RecordingApplier
) -> None:
    """Its own earlier failure is past: what it waits for says when to come again, and not a loop without a pause."""
    applier.fault = _fail(("Deployment", "deploy-users"))
    name = harness.put(spec(component(env={"A": "1"})))
    harness.reconciler.reconcile(name)
    applier.fault = _fail(("ConfigMap", "cm-users"), refused=True, http_status=422)
    harness.put(spec(component(env={"A": "2"}), build="build-2"))
    harness.now += 100
    harness.reconciler.reconcile(name)
    assert harness.reconciler._memories[name].retry_in_s(harness.now) == pytest.approx(0.8)


def test_r16_an_object_that_vanishes_does_not_wait_for_the_failure_of_its_update(
    harness: Harness, applier: RecordingApplier
) -> None:
    """A create is another write than the update that failed: it is tried at once."""
    name = harness.put(spec(component(env={"A": "1"})))
    harness.reconciler.reconcile(name)
    applier.fault = _fail(("ConfigMap", "cm-users"))
    harness.put(spec(component(env={"A": "2"}), build="build-2"))
    for _ in range(4):
        harness.reconciler.reconcile(name)
        harness.now += 7.0
    harness.reconciler.reconcile(name)
    applier.fault = None
    gone = applier.memory.objects.pop(("ConfigMap", "cm-users"))
    harness.stores["ConfigMap"].remove("cm-users", gone["metadata"]["uid"])
    seen = len(applier.writes)
    harness.reconciler.reconcile(name)
    assert "Create ConfigMap cm-users" in applier.verbs()[seen:]


def test_r18_no_deployment_without_its_configmap(harness: Harness, applier: RecordingApplier) -> None:
    """Pods never start with a configuration that is missing or old: the Deployment waits for its ConfigMap."""
    applier.fault = _fail(("ConfigMap", "cm-users"))
    name = harness.put(spec(component(env={"A": "1"})))
    harness.reconciler.reconcile(name)
    assert applier.verbs() == ["Create ConfigMap cm-users", "Create Service svc-users"]
    applier.fault = None
    harness.now += 1
    harness.reconciler.reconcile(name)
    assert applier.verbs()[2:] == ["Create ConfigMap cm-users", "Create Deployment deploy-users"]


def test_an_unknown_outcome_is_read_back_before_anything_else(harness: Harness, applier: RecordingApplier) -> None:
    """A write whose answer was lost is unknown in the log until it is read; it is not repeated if it landed."""

    def lost(action: Action) -> Result | None:
        if action.kind != "Service":
            return None
        applier.memory.write(action)
        return Result("unknown", message="timed out")

    applier.fault = lost
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    assert harness.status()["phase"] == "Degraded"
    applier.fault = None
    harness.reconciler.reconcile(name)
    assert [a.name for a in applier.reads] == ["svc-users"]
    outcomes = [r["outcome"] for r in harness.actions.since(0) if r["resource_name"] == "svc-users"]
    assert outcomes == ["unknown", "ok"]
    assert applier.verbs().count("Create Service svc-users") == 1
    assert harness.status()["phase"] == "Running"


def _outcomes(harness: Harness, resource_name: str) -> list[tuple[str, str]]:
    """Environment and outcome of each line about an object."""
    records = harness.actions.since(0)
    return [(r["environment_id"], r["outcome"]) for r in records if r["resource_name"] == resource_name]


_ENDS: dict[str, tuple[bool, bool, str]] = {
    "landed": (True, True, "ok"),
    "not there, or collected since": (False, True, "unknown"),
    "not readable": (True, False, "unknown"),
}


@pytest.mark.parametrize("gone", ["deleted", "made again", "in the foreground"])
@pytest.mark.parametrize(("landed", "readable", "outcome"), _ENDS.values(), ids=_ENDS.keys())
def test_an_unknown_outcome_is_closed_when_the_graph_goes(
    harness: Harness, applier: RecordingApplier, gone: str, outcome: str, *, landed: bool, readable: bool
) -> None:
    """The second line of a lost answer comes also if its graph is deleted first; it says only what can be known."""

    def lost(action: Action) -> Result | None:
        if action.kind != "Service":
            return None
        if landed:
            applier.memory.write(action)
        return Result("unknown", message="timed out")

    applier.fault = lost
    harness.reconciler.queue.stop()  # what is looked at is looked at here
    name = harness.put(spec(component(), environment="Env 1"))
    harness.reconciler.reconcile(name)
    obj = harness.graphs.get(name)
    assert obj is not None
    if not readable:
        applier.read = lambda action: Result("unknown", message="timed out")  # type: ignore[method-assign]
    if gone == "in the foreground":
        metadata = {**obj["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1000"}
        harness.graphs.put({**obj, "metadata": metadata})
    else:
        harness.drop(name)
    if gone == "made again":
        applier.fault = lambda _: Result("failed", 500, message="boom")
        harness.put(spec(component(), environment="Env 1"))
    harness.reconciler.reconcile(name)
    assert _outcomes(harness, "svc-users")[:2] == [("Env 1", "unknown"), ("Env 1", outcome)]
    newest = harness.actions.newest
    harness.reconciler.reconcile(name)
    assert harness.actions.newest == newest


def test_an_unknown_outcome_is_read_also_of_a_graph_that_is_refused_by_now(
    harness: Harness, applier: RecordingApplier
) -> None:
    """A graph of which nothing more is written is looked at until its lost answers are known."""
    applier.fault = lambda a: Result("unknown", message="timed out") if a.kind == "Service" else None
    harness.reconciler.queue.stop()  # what is looked at is looked at here
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    read = applier.read
    applier.read = lambda action: Result("unknown", message="timed out")  # type: ignore[method-assign]
    harness.put({**spec(), "rootPackage": 7})
    harness.reconciler.queue._due.pop(name)
    harness.reconciler.reconcile(name)
    assert harness.status()["phase"] == "Failed"
    assert name in harness.reconciler.queue._due
    applier.read = read  # type: ignore[method-assign]
    harness.reconciler.queue._due.pop(name)
    harness.reconciler.reconcile(name)
    assert _outcomes(harness, "svc-users") == [("env-1", "unknown"), ("env-1", "failed")]
    assert name not in harness.reconciler.queue._due


def test_r22_outcomes_that_cannot_be_read_do_not_hold_up_the_loop(harness: Harness, applier: RecordingApplier) -> None:
    """In an outage a few unread outcomes are tried, not all of them one by one; later every one of them is read."""
    applier.fault = lambda _: Result("unknown", message="timed out")
    name = harness.put(spec(*(component(f"c{n}") for n in range(60))))
    harness.reconciler.reconcile(name)
    read, asked = applier.read, []

    def unreadable(action: Action) -> Result:
        asked.append(action)
        return Result("unknown", message="timed out")

    applier.read = unreadable  # type: ignore[method-assign]
    harness.reconciler.reconcile(name)
    assert len(asked) == 3
    lost = {action.key for action in harness.reconciler._memories[name].unread()}
    assert len(lost) >= 16
    applier.read = read  # type: ignore[method-assign]
    applier.fault = None
    for _ in range(3):
        harness.now += 100
        harness.reconciler.reconcile(name)
    assert {action.key for action in applier.reads} == lost
    assert harness.status()["phase"] == "Running"


@pytest.mark.parametrize("landed", [True, False])
def test_r06_a_try_that_never_left_says_nothing_of_the_write_before(
    harness: Harness, applier: RecordingApplier, landed: bool
) -> None:
    """An unknown outcome is read when the API server is back, however many tries found no way to it meanwhile.

    What landed is not written again; what did not is written at once.
    """

    def lost(action: Action) -> Result:
        if landed:
            applier.memory.write(action)
        return Result("unknown", message="timed out")

    read, unread = applier.read, Result("unknown", message="no way")
    applier.fault, applier.read = lost, lambda action: unread  # type: ignore[method-assign]
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    applier.fault = lambda _: Result("failed", message="no way", sent=False)
    for _ in range(8):
        harness.now += 100
        harness.reconciler.reconcile(name)
    applier.fault, applier.read = None, read  # type: ignore[method-assign]
    harness.now += 100
    applier.writes.clear()
    harness.reconciler.reconcile(name)
    outcomes = [r["outcome"] for r in harness.actions.since(0) if r["resource_name"] == "cm-users"]
    assert outcomes == ["unknown", *["failed"] * 8, *(["ok"] if landed else ["failed", "ok"])]
    assert applier.verbs().count("Create ConfigMap cm-users") == (not landed)
    assert harness.status()["phase"] == "Running"


def test_an_unknown_outcome_that_a_later_write_overtook_is_past(harness: Harness, applier: RecordingApplier) -> None:
    """When the next spec of an object is written, nobody asks any more what became of the one before."""
    applier.fault = lambda a: Result("unknown", message="timed out") if a.kind == "ConfigMap" else None
    name = harness.put(spec(component(env={"A": "1"})))
    harness.reconciler.reconcile(name)
    read = applier.read
    applier.read = lambda action: Result("unknown", message=action.name)  # type: ignore[method-assign]
    applier.fault = None
    harness.put(spec(component(env={"A": "2"}), build="build-2"))
    harness.reconciler.reconcile(name)
    applier.read = read  # type: ignore[method-assign]
    newest = harness.actions.newest
    harness.reconciler.reconcile(name)
    assert (applier.reads, harness.actions.newest) == ([], newest)
    assert harness.status()["phase"] == "Running"


def test_a_write_that_breaks_leaves_no_other_one_running(harness: Harness, applier: RecordingApplier) -> None:
    """A reconcile that fails ends after all of its writes have ended, so that the next one is alone."""
    running: set[str] = set()
    broken = threading.Event()

    def fault(action: Action) -> None:
        if action.component == "a":
            broken.set()
            raise RuntimeError("unforeseen")
        running.add(action.component)
        assert broken.wait(30)
        time.sleep(0.3)  # in which a reconcile that waits for nobody ends
        running.remove(action.component)

    applier.fault = fault
    name = harness.put(spec(component("a"), component("b"), component("c")))
    with pytest.raises(RuntimeError, match="unforeseen"):
        harness.reconciler.reconcile(name)
    assert not running


def test_r13_what_a_webhook_rewrites_is_not_replaced_again_and_again(
    harness: Harness, applier: RecordingApplier
) -> None:
    """An object that comes back from its creation rewritten is told of, not deleted and made again at once."""

    def rewrite(action: Action) -> Result | None:
        if action.kind != "Service" or action.body is None:
            return None
        stored = copy.deepcopy(applier.memory.write(action).obj)
        assert stored is not None
        stored["spec"]["ports"] = [{"name": "http", "port": 9999, "targetPort": 9999, "protocol": "TCP"}]
        tree: dict[str, Any] = {"f:metadata": {}, "f:spec": {"f:type": {}, "f:selector": {}}}
        stored["metadata"]["ownedFields"] = json.dumps(tree)
        applier.memory.objects[action.key] = stored
        return Result("ok", 201, stored)

    applier.fault = rewrite
    name = harness.put(spec(component()))
    for _ in range(20):
        harness.reconciler.reconcile(name)
        harness.now += 2
    assert [verb for verb in applier.verbs() if "Service" in verb] == ["Create Service svc-users"]
    assert "does not keep" in harness.status()["componentStatuses"][0]["message"]


def test_r19_whoever_undoes_every_write_is_told_of_and_not_fought_at_full_speed(
    harness: Harness, applier: RecordingApplier
) -> None:
    """The same is written five times in five seconds at most; other objects and a new spec are written at once."""
    name = harness.put(spec(component(), component("other")))
    harness.reconciler.reconcile(name)
    applier.writes.clear()

    def undo(kind: str, name: str, round_: int) -> None:
        obj = harness.stores[kind].get(name)
        assert obj is not None
        metadata = {**obj["metadata"], "resourceVersion": str(1000 + round_), "generation": 1000 + round_}
        changed = {**obj, "metadata": metadata, "spec": {**obj["spec"], "type": "NodePort", "replicas": 9}}
        applier.memory.objects[kind, name] = changed
        harness.stores[kind].put(changed)
        applier.memory._versions = itertools.count(2000 + round_)

    harness.reconciler.queue.stop()  # what is looked at is looked at here
    for round_ in range(90):
        undo("Deployment", "deploy-users", 10_000 * round_)
        harness.reconciler.reconcile(name)
        harness.now += 0.1
    assert 8 <= len(applier.writes) <= 10
    undo("Deployment", "deploy-users", 2_000_000)
    harness.reconciler.reconcile(name)
    row = harness.status()["componentStatuses"][1]
    assert (row["packageName"], row["phase"]) == ("users", "Failed")
    assert "somebody undoes it" in row["message"]
    applier.writes.clear()
    undo("Service", "svc-other", 3_000_000)
    harness.reconciler.reconcile(name)
    harness.put(spec(component(replicas=2), component("other"), build="build-2"))
    harness.reconciler.reconcile(name)
    assert applier.verbs() == ["Update Service svc-other", "Update Deployment deploy-users"]
    assert harness.status()["phase"] == "Running"


def test_r26_large_graphs_at_work_do_not_keep_a_small_one_from_being_planned(
    harness: Harness, applier: RecordingApplier
) -> None:
    """While the writes of ten graphs take their time an eleventh is planned and written."""
    go_on = threading.Event()

    def hold(action: Action) -> None:
        if action.component != "small":
            go_on.wait(20)

    applier.fault = hold
    large = [harness.put(spec(component(f"c{n}"), environment=f"large-{n}")) for n in range(10)]
    futures = [harness.reconciler.request(name) for name in large]
    records = harness.reconciler.request(harness.put(spec(component("small"), environment="small"))).result(10)
    assert [record["outcome"] for record in records] == ["ok"] * 3
    assert not any(future.done() for future in futures)
    go_on.set()
    for future in futures:
        future.result(10)


def test_r26_a_large_graph_being_written_delays_a_small_one_by_a_component(applier: RecordingApplier) -> None:
    """While one writer works on a hundred components, those of another graph are written after the one in work."""
    harness = Harness(applier, writers=1)
    go_on = threading.Event()
    applier.fault = lambda _: None if go_on.wait(10) else Result("failed", message="waited too long")
    large = harness.reconciler.request(
        harness.put(spec(*(component(f"c{n}") for n in range(100)), environment="large"))
    )
    pool = harness.reconciler._writer._pool
    assert pool is not None
    _until("the large one to be written", lambda: len(applier.writes) == 1)
    small = harness.reconciler.request(harness.put(spec(component("small"), environment="small")))
    _until("the small one to wait", lambda: "small" in {group for group, _ in list(pool._tasks.items())})
    go_on.set()
    small.result(10)
    large.result(10)
    order = [record["environment_id"] for record in harness.actions.since(0)]
    assert order.index("small") <= 6, order.index("small")  # the component in work, and one more
    assert order.count("large") == 300
    harness.stop()


def test_many_failures_make_few_events(harness: Harness, applier: RecordingApplier) -> None:
    """Hundreds of refused writes are ten Events and one that counts the rest, not hundreds."""
    applier.fault = lambda _: Result("failed", 403, message="forbidden", refused=True)
    name = harness.put(spec(*(component(f"c{n}") for n in range(100))))
    harness.reconciler.reconcile(name)
    told = [message for kind, reason, message in harness.events if (kind, reason) == ("Warning", "WriteFailed")]
    assert len(told) == 11
    assert told[-1].startswith("and 190 more")


def test_r13_a_field_the_api_server_changes_is_told_once_and_not_fought_over(
    harness: Harness, applier: RecordingApplier
) -> None:
    """If a write comes back otherwise than it was sent, it is reported, and repeated only every five minutes."""

    def mutate(action: Action) -> Result | None:
        if action.kind != "Deployment":
            return None
        obj = copy.deepcopy(applier.memory.write(action).obj)
        assert obj is not None
        obj["spec"]["replicas"] = 9
        return Result("ok", 200, obj)

    applier.fault = mutate
    name = harness.put(spec(component()))
    for _ in range(30):
        harness.reconciler.reconcile(name)
        harness.now += 20
    assert applier.verbs().count("Update Deployment deploy-users") == 1
    status = harness.status()
    assert status["phase"] == "Degraded"
    assert "does not keep spec.replicas" in status["componentStatuses"][0]["message"]
    assert {event[:2] for event in harness.events} == {("Normal", "Applied")}
    applier.fault = None
    harness.now += 300
    harness.reconciler.reconcile(name)
    assert harness.status()["phase"] == "Running"


def test_r14_a_conflict_is_told_once_and_healed_when_the_name_is_free(
    harness: Harness, applier: RecordingApplier
) -> None:
    """A foreign object is left alone; its end brings the graph back without anybody asking."""
    foreign = {"metadata": {"name": "svc-users", "uid": "f", "resourceVersion": "5"}}
    harness.stores["Service"].listener = harness.reconciler.observe
    harness.stores["Service"].put(foreign)
    name = harness.put(spec(component()))
    for _ in range(3):
        harness.reconciler.reconcile(name)
    conflicts = [r for r in harness.actions.since(0) if r["action"] == "Conflict"]
    assert [(r["resource_name"], r["outcome"]) for r in conflicts] == [("svc-users", "skipped")]
    assert harness.status()["phase"] == "Degraded"
    done = threading.Event()
    harness.reconciler.changed = lambda _: done.set() if harness.status()["phase"] == "Running" else None
    harness.stores["Service"].remove("svc-users", "f")
    assert done.wait(5), harness.status()


def test_r14_a_name_that_becomes_free_while_it_is_planned_is_taken(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign object that goes between the look at it and the claim to its name is not waited for."""
    services = harness.stores["Service"]
    services.listener = harness.reconciler.observe
    services.put({"metadata": {"name": "svc-users", "uid": "f", "resourceVersion": "5"}})

    def slow(*arguments: Any) -> Any:
        actions = plan(*arguments)
        services.remove("svc-users", "f")
        return actions

    monkeypatch.setattr("turbo_operator.reconciler.plan", slow)
    done = threading.Event()
    harness.reconciler.changed = lambda _: done.set() if harness.status()["phase"] == "Running" else None
    records = harness.reconciler.request(harness.put(spec(component()))).result(10)
    assert ("Conflict", "svc-users") in {(r["action"], r["resource_name"]) for r in records}
    assert done.wait(10), harness.status()


def test_an_object_that_came_up_meanwhile_is_not_taken_over(harness: Harness, applier: RecordingApplier) -> None:
    """A create that finds the name taken is a conflict to be planned anew, not an update."""
    foreign = {"kind": "Service", "metadata": {"name": "svc-users", "uid": "f", "resourceVersion": "99"}}
    applier.fault = lambda a: Result("conflict", 409, foreign, "exists") if a.kind == "Service" else None
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    harness.reconciler.reconcile(name)
    assert applier.verbs().count("Create Service svc-users") == 1
    assert harness.status()["componentStatuses"][0]["phase"] == "Conflict"


def test_a_graph_under_a_wrong_name_is_refused(harness: Harness, applier: RecordingApplier) -> None:
    """The APIGraph's name follows from the environment id, so that two never speak for one environment."""
    harness.graphs.put(
        {"metadata": {"name": "other", "uid": "u", "resourceVersion": "3", "generation": 1}, "spec": spec(component())}
    )
    told = harness.reconciler.reconcile("other")
    assert [(r["action"], r["outcome"], r["environment_id"]) for r in told] == [("Refuse", "skipped", "other")]
    assert "must be 'env-1'" in told[0]["reason"]
    assert harness.reconciler.reconcile("other") == []  # told once
    assert applier.writes == []
    assert "must be 'env-1'" in harness.status("other")["conditions"][0]["message"]


def test_r10_a_refused_route_is_an_action(harness: Harness) -> None:
    """What of a graph is refused without being a component is told in the log, once, as it is in the status."""
    name = harness.put(spec(component(), ingress={"routes": [{"path": "/x", "targetComponent": "nobody"}]}))
    for _ in range(2):
        harness.reconciler.reconcile(name)
    refused = [(r["resource_name"], r["reason"]) for r in harness.actions.since(0) if r["action"] == "Refuse"]
    assert refused == [("env-1", "ingress.routes[0].targetComponent: 'nobody' is not a component of this graph")]


def test_r24_memory_does_not_grow_with_reconciles(harness: Harness) -> None:
    """After a thousand updates and the deletion of each graph, as much is remembered as after ten."""
    harness.actions = ActionLog(kept=50)
    harness.reconciler._writer._actions = harness.actions
    sizes = []
    for round_ in range(300):
        name = harness.put(spec(component(env={"A": str(round_)}), environment=f"env-{round_}"))
        harness.reconciler.reconcile(name)
        harness.put(spec(component(env={"B": str(round_)}), environment=f"env-{round_}"))
        harness.reconciler.reconcile(name)
        harness.drop(name)
        for kind, prefix in names.PREFIXES.items():
            obj = harness.stores[kind].get(f"{prefix}users")
            assert obj is not None
            harness.stores[kind].remove(f"{prefix}users", obj["metadata"]["uid"])
        harness.reconciler._writer._applier.memory.objects.clear()  # type: ignore[attr-defined]
        harness.reconciler.reconcile(name)
        harness.reconciler.queue.succeeded(name)
        if round_ in {10, 299}:
            remembered = (harness.reconciler._memories, harness.reconciler._specs, harness.reconciler._claims)
            sizes.append([len(memory) for memory in remembered])
    assert sizes[0] == sizes[1] == [0, 0, 0]
    assert len(harness.actions.since(0)) == 50
    assert len(harness.reconciler.queue._heap) <= 8 * (len(harness.reconciler.queue._due) + 8)


def test_an_outage_is_not_waited_for_object_by_object(harness: Harness, applier: RecordingApplier) -> None:
    """When nothing answers any more the rest of a large graph is left for the next try."""
    applier.fault = lambda _: Result("failed", 0, message="connection refused")
    name = harness.put(spec(*(component(f"c{n}") for n in range(200))))
    harness.reconciler.reconcile(name)
    assert 16 <= len(applier.writes) <= 60
    assert harness.status()["phase"] == "Degraded"
    applier.fault = None
    harness.now += 2
    harness.reconciler.reconcile(name)
    assert harness.status()["phase"] == "Running"


def test_r22_graphs_that_wait_for_the_caches_are_no_stuck_loop(applier: RecordingApplier) -> None:
    """Until the loop has begun nothing is late, however long the API server is away; then it is."""
    harness = Harness(applier, start=False)
    long_ago = time.monotonic() - 1000
    harness.reconciler.queue._due["env-1"] = long_ago
    harness.now += 1000
    assert harness.reconciler.idle() is None
    harness.reconciler.start()
    assert harness.reconciler.idle() == "graphs are due and nothing happened for 1000 s"
    harness.stop()
