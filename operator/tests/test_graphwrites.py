"""Writes of APIGraphs: each that was sent is told as it ended, and none is sent any more once the operator stops."""

import threading
from typing import Any

import pytest
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.applier import Result
from turbo_operator.graphs import GraphChange, GraphWriteError

UNKNOWN = Result("unknown", message="the line was cut")
ONE, NEWER = spec(component()), spec(component(), build="build-2")


@pytest.fixture
def harness() -> Harness:
    """Stores and a place for APIGraphs, without a running loop."""
    return Harness(RecordingApplier(), start=False)


def _told(harness: Harness) -> list[tuple[str, str, str]]:
    return [(r["action"], r["resource_kind"], r["outcome"]) for r in harness.actions.since(0)]


def _lose(harness: Harness, monkeypatch: pytest.MonkeyPatch, *, landed: bool) -> None:
    """Lose the answer to the next write, which cannot be read back."""
    write = harness.writer.write

    def cut(change: GraphChange) -> Result:
        monkeypatch.setattr(harness.writer, "write", write)
        if landed:
            write(change)
        return UNKNOWN

    monkeypatch.setattr(harness.writer, "write", cut)


def _upsert(harness: Harness, value: dict[str, Any]) -> Any:
    return harness.writes.upsert(value, source="api", reason="test")


def test_a_write_that_came_to_nothing_is_told_with_its_own_verb(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Create that nobody knows the end of is a Create, though the watch shows its effect; then it is told as ok."""
    _lose(harness, monkeypatch, landed=True)
    with pytest.raises(GraphWriteError) as caught:
        _upsert(harness, ONE)
    assert (caught.value.status, caught.value.code) == (503, "unknown")
    assert _told(harness) == [("Create", "APIGraph", "unknown"), ("Create", "APIGraph", "ok")]
    assert _upsert(harness, ONE)[0] is None


def test_what_the_watch_shows_later_ends_an_unknown_outcome(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line comes with the event that shows the write, once."""
    harness.put(ONE)
    _lose(harness, monkeypatch, landed=False)
    with pytest.raises(GraphWriteError):
        _upsert(harness, NEWER)
    present = harness.graphs.get("env-1")
    harness.writes.observe("env-1", present)
    assert _told(harness) == [("Update", "APIGraph", "unknown")]
    for _ in range(2):
        harness.writes.observe("env-1", {**(present or {}), "spec": NEWER})
    assert _told(harness)[1:] == [("Update", "APIGraph", "ok")]


def test_an_unknown_outcome_is_read_before_the_next_write(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """What did not land is told as failed, and then the write is sent again."""
    _lose(harness, monkeypatch, landed=False)
    with pytest.raises(GraphWriteError):
        _upsert(harness, ONE)
    assert _upsert(harness, ONE)[0] == "Create"
    assert [outcome for _, _, outcome in _told(harness)] == ["unknown", "failed", "ok"]


def test_a_lost_delete_that_landed_is_told(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the APIGraph is the answer that was lost."""
    harness.put(ONE)
    obj = harness.graphs.get("env-1")
    assert obj is not None
    _lose(harness, monkeypatch, landed=False)
    with pytest.raises(GraphWriteError, match="may have landed"):
        harness.writes.remove(obj, "env-1", "test")
    harness.writes.observe("env-1", None)
    assert _told(harness) == [("Delete", "APIGraph", "unknown"), ("Delete", "APIGraph", "ok")]


def test_r24_few_unknown_outcomes_are_remembered(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that is away for long makes nothing grow."""
    monkeypatch.setattr("turbo_operator.graphwrites._MOST_UNREAD", 3)
    monkeypatch.setattr(harness.writer, "write", lambda _: UNKNOWN)
    for n in range(10):
        with pytest.raises(GraphWriteError):
            _upsert(harness, spec(component(), environment=f"env-{n}"))
    assert list(harness.writes._unread) == ["env-7", "env-8", "env-9"]


def test_r21_no_write_begins_after_the_stop(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and told to nobody as a write."""
    harness.put(ONE)
    obj = harness.graphs.get("env-1")
    assert obj is not None
    sent: list[GraphChange] = []
    monkeypatch.setattr(harness.writer, "write", sent.append)
    harness.writes.stop()
    for attempt in (lambda: _upsert(harness, NEWER), lambda: harness.writes.remove(obj, "env-1", "test")):
        with pytest.raises(GraphWriteError) as caught:
            attempt()
        assert (caught.value.status, caught.value.code) == (503, "stopping")
    assert (sent, _told(harness)) == ([], [])


def test_r23_a_write_under_way_is_waited_for(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop waits until it has ended as an action, and no longer than it may."""
    begun, go_on = threading.Event(), threading.Event()
    write = harness.writer.write

    def slow(change: GraphChange) -> Result:
        begun.set()
        assert go_on.wait(30)
        return write(change)

    monkeypatch.setattr(harness.writer, "write", slow)
    thread = threading.Thread(target=_upsert, args=(harness, ONE))
    thread.start()
    assert begun.wait(30)
    harness.writes.stop()
    assert not harness.writes.drain(0.01)
    threading.Timer(0.05, go_on.set).start()
    assert harness.writes.drain(30)
    assert _told(harness) == [("Create", "APIGraph", "ok")]
    thread.join(30)
