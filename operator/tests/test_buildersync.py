"""The builder's graphs: taken up at once, pruned only on proof."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_builder import Builder, fake_builder
from harness import Harness, RecordingApplier, upsert
from sandbox import wait
from specs import component, spec

from turbo_operator.applier import Result
from turbo_operator.builderanswer import Answer, PollError, prunable, read_answer
from turbo_operator.buildersync import BuilderSync
from turbo_operator.core import names
from turbo_operator.graphretries import GraphRetries
from turbo_operator.graphs import GraphChange

ONE, TWO = spec(component("a"), environment="env-1"), spec(component("b"), environment="env-2")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def builder() -> Iterator[Builder]:
    """A builder on loopback."""
    with fake_builder() as server:
        yield server


@pytest.fixture
def harness() -> Harness:
    """Stores and a place for APIGraphs, without a running loop."""
    return Harness(RecordingApplier(), start=False)


def _sync(builder: Builder, harness: Harness) -> BuilderSync:
    stopping = threading.Event()
    return BuilderSync(builder.url, 5.0, harness.graphs, harness.writes, harness.actions, stopping, tell=harness._tell)


def _environments(harness: Harness) -> set[str]:
    return {obj["spec"]["environmentId"] for obj in harness.graphs.all()}


def test_graphs_become_apigraphs_once(builder: Builder, harness: Harness) -> None:
    """A graph is created, an unchanged one is left alone, a changed one is replaced; each write is an action."""
    sync = _sync(builder, harness)
    builder.say(ONE, traceparents={"env-1": PARENT})
    sync.poll()
    obj = harness.graphs.get("env-1")
    assert obj is not None
    assert obj["metadata"]["labels"] == {names.LABEL_SOURCE: "builder"}
    assert PARENT.split("-")[1] in obj["metadata"]["annotations"][names.ANNOTATION_TRACEPARENT]
    sync.poll()
    builder.say({**ONE, "buildId": "build-2"})
    sync.poll()
    assert [(r["action"], r["resource_kind"]) for r in harness.actions.since(0)] == [
        ("Create", "APIGraph"),
        ("Update", "APIGraph"),
    ]


def test_the_builder_is_asked_to_hold_its_answer(builder: Builder, harness: Harness) -> None:
    """After a first answer the poll names its ETag and how long it may be held, and asks for no trace."""
    sync = _sync(builder, harness)
    builder.say(ONE)
    assert sync.poll() <= 0.2
    started = time.monotonic()
    pause = sync.poll()
    # This builder does not hold: it is not asked more often than the interval.
    assert 5 - (time.monotonic() - started) <= pause <= 5
    assert "if-none-match" not in builder.requests[0]
    assert builder.requests[1]["prefer"] == "wait=5"
    assert builder.requests[1]["if-none-match"] == builder.etag
    assert builder.requests[1]["traceparent"].endswith("-00")


def test_r15_a_deleted_graph_is_pruned_after_two_agreeing_answers(builder: Builder, harness: Harness) -> None:
    """One answer without the graph is a candidate, the second prunes it; the last graph goes the same way."""
    sync = _sync(builder, harness)
    for present, left in (((ONE, TWO), {"env-1", "env-2"}), ((TWO,), {"env-2"}), ((), set())):
        builder.say(*present)
        before = _environments(harness)
        assert sync.poll() <= 1.0
        assert _environments(harness) == before | left
        sync.poll()
        assert _environments(harness) == left


def test_the_builder_is_asked_again_at_once_after_a_pruning(builder: Builder, harness: Harness) -> None:
    """The answer that confirms a deletion was not held, so the next question follows at once and may be held."""
    sync = _sync(builder, harness)
    builder.say(ONE)
    sync.poll()
    builder.say()
    sync.poll()
    assert sync.poll() <= 0.4  # of an interval of five seconds
    assert "prefer" not in builder.requests[-1]
    sync.poll()
    assert builder.requests[-1]["prefer"] == "wait=5"


def test_r15_nothing_is_pruned_when_the_second_answer_disagrees(builder: Builder, harness: Harness) -> None:
    """A graph that is missing once and back the next time stays; a failed poll in between starts the count anew."""
    sync = _sync(builder, harness)
    builder.say(ONE, TWO)
    sync.poll()
    for _ in range(3):
        builder.say(ONE)
        sync.poll()
        builder.say(ONE, TWO)
        sync.poll()
    builder.say(ONE)
    sync.poll()
    builder.status, builder.body = 503, b"away"
    with pytest.raises(PollError, match="503"):
        sync.poll()
    sync._failed("503")
    builder.say(ONE)
    sync.poll()
    assert _environments(harness) == {"env-1", "env-2"}


def test_r15_a_builder_that_lost_its_data_deletes_nothing(builder: Builder, harness: Harness) -> None:
    """An empty answer from another data store is no deletion, however often it comes, also after a restart."""
    sync = _sync(builder, harness)
    builder.say(ONE, TWO)
    sync.poll()
    builder.say(store="s2")
    for _ in range(4):
        sync.poll()
    again = _sync(builder, harness)
    for _ in range(4):
        again.poll()
    assert _environments(harness) == {"env-1", "env-2"}


def test_r15_a_deletion_while_the_operator_was_down_is_seen(builder: Builder, harness: Harness) -> None:
    """The store that held a graph and lacks it now deleted it, whoever saw it last."""
    builder.say(ONE, TWO)
    _sync(builder, harness).poll()
    builder.say(TWO)
    after = _sync(builder, harness)
    after.poll()
    after.poll()
    assert _environments(harness) == {"env-2"}


def test_r15_without_a_named_store_only_a_change_that_was_seen_prunes(builder: Builder, harness: Harness) -> None:
    """A builder that does not name its store prunes only what an earlier answer with another ETag had."""
    builder.say(ONE, TWO, store=None)
    first = _sync(builder, harness)
    first.poll()
    builder.say(store=None)
    fresh = _sync(builder, harness)
    for _ in range(3):
        fresh.poll()
    assert _environments(harness) == {"env-1", "env-2"}
    first.poll()
    first.poll()
    assert _environments(harness) == set()


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"graphs": null}', b'{"graphs": {}}', b'{"graphs": ['],
)
def test_r15_malformed_answers_change_nothing(builder: Builder, harness: Harness, body: bytes) -> None:
    """What is not an answer is an error, not an empty list."""
    sync = _sync(builder, harness)
    builder.say(ONE)
    sync.poll()
    builder.body, builder.etag = body, '"other"'
    for _ in range(3):
        with pytest.raises(PollError):
            sync.poll()
    assert _environments(harness) == {"env-1"}


@pytest.mark.parametrize("entry", [None, 7, {}, {"environmentId": 3}, {"environmentId": ""}, TWO])
def test_r15_a_partial_answer_prunes_nothing_but_is_taken_up(builder: Builder, harness: Harness, entry: Any) -> None:
    """If one entry cannot be read (or stands there twice), the readable ones are used and absences mean nothing."""
    sync = _sync(builder, harness)
    builder.say(ONE)
    sync.poll()
    builder.say(TWO, entry)
    for _ in range(3):
        sync.poll()
    assert _environments(harness) == {"env-1", "env-2"}


def test_a_graph_by_hand_is_neither_changed_nor_pruned(builder: Builder, harness: Harness) -> None:
    """The builder's graph of the same environment is refused, told once, and the hand-made one stays."""
    harness.graphs.put(
        {"metadata": {"name": "env-1", "uid": "u", "resourceVersion": "1", "generation": 1}, "spec": TWO | ONE}
    )
    sync = _sync(builder, harness)
    builder.say({**ONE, "buildId": "build-9"}, TWO)
    for _ in range(3):
        sync.poll()
    assert "made by hand" in sync.refused["env-1"]
    builder.say()
    for _ in range(3):
        sync.poll()
    assert _environments(harness) == {"env-1"}
    assert [(r["action"], r["outcome"]) for r in harness.actions.since(0) if r["environment_id"] == "env-1"] == [
        ("Conflict", "skipped")
    ]


def test_a_refused_graph_does_not_keep_the_others_back(
    builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph the API server refuses is told, and the next ones are written."""
    write = harness.writer.write

    def refuse(change: GraphChange) -> Result:
        if change.name == "env-1":
            return Result("failed", 422, message="spec.components[0].colour: unknown", refused=True)
        return write(change)

    monkeypatch.setattr(harness.writer, "write", refuse)
    sync = _sync(builder, harness)
    builder.say(ONE, TWO)
    for _ in range(2):
        sync.poll()
    assert _environments(harness) == {"env-2"}
    assert sync.refused == {"env-1": "spec.components[0].colour: unknown"}
    assert [(r["action"], r["outcome"], r["http_status"]) for r in harness.actions.since(0)] == [
        ("Create", "failed", 422),
        ("Create", "ok", 201),
    ]


def test_a_synced_graph_edited_by_hand_is_put_right(builder: Builder, harness: Harness) -> None:
    """The builder's word stands: an edit of a synced graph lasts until the next poll."""
    sync = _sync(builder, harness)
    builder.say(ONE)
    sync.poll()
    upsert(harness.writer, harness.graphs, {**ONE, "buildId": "mine"}, source="api")
    sync.poll()
    obj = harness.graphs.get("env-1")
    assert obj is not None
    assert obj["spec"]["buildId"] == "build-1"


@pytest.mark.parametrize("deleted", [False, True], ids=["brought", "pruned"])
def test_r23_the_sync_begins_no_write_after_the_stop(
    builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch, *, deleted: bool
) -> None:
    """Of many writes the one that is under way when the operator stops is the last, and it ends as an action."""
    sync = _sync(builder, harness)
    many = [spec(component(), environment=f"env-{n}") for n in range(5)]
    if deleted:
        builder.say(*many)
        sync.poll()
        builder.say()
        sync.poll()
    else:
        builder.say(*many)
    mark = harness.actions.newest
    write = harness.writer.write

    def stop_meanwhile(change: GraphChange) -> Result:
        sync._stopping.set()
        harness.writes.stop()
        return write(change)

    monkeypatch.setattr(harness.writer, "write", stop_meanwhile)
    sync.poll()
    told = [(r["action"], r["environment_id"], r["outcome"]) for r in harness.actions.since(mark)]
    assert told == [("Delete" if deleted else "Create", "env-0", "ok")]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def _failing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, result: Result, name: str = "env-1"
) -> list[GraphChange]:
    """Let every write of an APIGraph end in one way; gives the writes that were tried."""
    write = harness.writer.write
    tried: list[GraphChange] = []

    def fail(change: GraphChange) -> Result:
        if change.name != name:
            return write(change)
        tried.append(change)
        return result

    monkeypatch.setattr(harness.writer, "write", fail)
    return tried


@pytest.mark.parametrize("verb", ["Create", "Update", "Delete"])
def test_r16_a_failed_write_waits_longer_each_time_and_keeps_no_other_back(
    builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """0.8 s, doubled; meanwhile other graphs are written, and the builder is asked to hold its answer until then."""
    sync, clock = _sync(builder, harness), Clock()
    sync._retries = GraphRetries(clock)
    if verb != "Create":
        builder.say(ONE)
        sync.poll()
    builder.say(*([] if verb == "Delete" else [{**ONE, "buildId": "build-2"}]))
    if verb == "Delete":
        sync.poll()
    tried = _failing(harness, monkeypatch, Result("failed", 500, message="boom"))
    waits = []
    for _ in range(4):
        before = len(tried)
        sync.poll()
        if verb == "Delete" and len(tried) == before:
            sync.poll()  # an absence is confirmed by two answers
        assert len(tried) == before + 1
        waits.append(round(sync._retries.due_in_s(), 3))
        sync.poll()
        assert len(tried) == before + 1
        assert int(builder.requests[-1].get("prefer", "wait=0").removeprefix("wait=")) == min(5, int(waits[-1]))
        clock.now += waits[-1]
    assert waits == [0.8, 1.6, 3.2, 6.4]
    assert {(change.verb, change.name) for change in tried} == {(verb, "env-1")}
    told = [r["outcome"] for r in harness.actions.since(0) if r["action"] == verb][-4:]
    assert told == ["failed"] * 4
    builder.say(*([] if verb == "Delete" else [ONE]), TWO)
    sync.poll()
    assert "env-2" in _environments(harness)


def test_r06_the_sync_heeds_retry_after(builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the API server asks for is waited out, and the pauses of the polls follow; another graph of it is tried."""
    sync, clock = _sync(builder, harness), Clock()
    sync._retries = GraphRetries(clock)
    builder.say(ONE)
    tried = _failing(harness, monkeypatch, Result("failed", 429, message="slow down", retry_after_s=30))
    pauses = []
    for _ in range(4):
        pauses.append(sync.poll())
        clock.now += 7
    assert len(tried) == 1
    assert "slow down" in sync.refused["env-1"]
    assert max(pauses) > 1
    clock.now += 2.1
    sync.poll()
    assert len(tried) == 2
    builder.say({**ONE, "buildId": "build-2"})
    sync.poll()
    assert len(tried) == 3


def test_r06_a_write_that_is_due_by_now_is_no_reason_for_a_poll_at_once(
    builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late it is for the next try, two polls are some time apart."""
    sync = _sync(builder, harness)
    late = itertools.count(1000, 100)
    sync._retries = GraphRetries(lambda: next(late))
    builder.say(ONE)
    tried = _failing(harness, monkeypatch, Result("failed", 500, message="boom"))
    for n in range(3):
        started = time.monotonic()
        pause = sync.poll()
        assert pause + time.monotonic() - started >= 0.2
        assert len(tried) == n + 1


def test_what_stands_in_the_way_is_looked_at_with_each_poll_and_not_oftener(
    builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph made by hand after a failed write is a conflict, for which nothing has to be tried again."""
    sync, clock = _sync(builder, harness), Clock()
    sync._retries = GraphRetries(clock)
    builder.say(ONE)
    _failing(harness, monkeypatch, Result("failed", 500, message="boom"))
    sync.poll()
    assert sync._retries.due_in_s() == pytest.approx(0.8)
    harness.graphs.put({"metadata": {"name": "env-1", "uid": "u", "resourceVersion": "1"}, "spec": TWO | ONE})
    clock.now += 60
    sync.poll()
    assert "made by hand" in sync.refused["env-1"]
    assert sync._retries.due_in_s() == float("inf")


def test_a_graph_that_is_free_again_is_made_at_once(
    builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that failed for what stood there waits no more when that has changed."""
    sync, clock = _sync(builder, harness), Clock()
    sync._retries = GraphRetries(clock)
    metadata = {"name": "env-1", "uid": "u", "resourceVersion": "1", "deletionTimestamp": "x"}
    harness.graphs.put({"metadata": metadata, "spec": ONE})
    builder.say(ONE)
    for _ in range(3):
        sync.poll()
    assert "is being deleted" in sync.refused["env-1"]
    assert [(r["action"], r["outcome"]) for r in harness.actions.since(0)] == [("Refuse", "skipped")]
    harness.graphs.remove("env-1", "u")
    sync.poll()
    assert harness.graphs.get("env-1") is not None
    assert sync.refused == {}


def test_r06_a_builder_whose_answers_differ_in_their_order_is_asked_ever_more_seldom(
    builder: Builder, harness: Harness
) -> None:
    """Nothing is written, and the pauses grow to the interval: they are never nothing."""
    sync = _sync(builder, harness)
    value = spec(component("a"), component("b"))
    turned = {**value, "components": value["components"][::-1]}
    pauses = [0.0]
    while pauses[-1] < 5.0:
        builder.say(turned if len(pauses) % 2 else value)
        started = time.monotonic()
        pause = sync.poll()
        pauses.append(pause + time.monotonic() - started)
        assert len(pauses) < 100
    assert [r["action"] for r in harness.actions.since(0)] == ["Create"]
    assert min(pauses[1:]) >= 0.2


def test_r15_an_entry_that_nobody_can_write_is_told_and_prunes_nothing(builder: Builder, harness: Harness) -> None:
    """Half a surrogate pair is no text: that entry is left out, the others are taken, and nothing is pruned by it."""
    sync = _sync(builder, harness)
    builder.say(ONE, TWO)
    sync.poll()
    builder.say({**ONE, "rootPackage": "\ud800"}, {**TWO, "buildId": "build-2"}, {**ONE, "environmentId": "a\udfff"})
    for _ in range(3):
        sync.poll()
    assert _environments(harness) == {"env-1", "env-2"}
    assert "surrogate" in sync.refused["env-1"]
    assert (harness.graphs.get("env-2") or {})["spec"]["buildId"] == "build-2"
    assert list(sync.refused) == ["env-1"]


def test_r24_what_is_gone_is_forgotten(builder: Builder, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync remembers nothing of environments that come and go, refused ones among them."""
    sync = _sync(builder, harness)
    refusal = Result("failed", 422, message="by a policy", refused=True)
    _failing(harness, monkeypatch, refusal, "refused")
    by_hand = {"name": "mine", "uid": "u", "resourceVersion": "1", "generation": 1}
    harness.graphs.put({"metadata": by_hand, "spec": ONE})
    for n in range(5):
        environments = (f"env-{n}", "refused", "mine")
        builder.say(*(spec(component(str(n)), environment=environment) for environment in environments))
        sync.poll()
        sync.poll()
    assert set(sync._seen) == {"env-4", "refused", "mine"}
    assert set(sync._told) == {"mine"}
    assert "refused" in sync._retries
    builder.say()
    sync.poll()
    sync.poll()
    assert (set(sync._seen), sync._told, "refused" in sync._retries) == ({"mine"}, {}, False)


def test_the_thread_goes_on_through_failures(builder: Builder, harness: Harness) -> None:
    """A builder that is away at the start is found as soon as it answers."""
    builder.status = 500
    stopping = threading.Event()
    sync = BuilderSync(builder.url, 5.0, harness.graphs, harness.writes, harness.actions, stopping, tell=harness._tell)
    sync.start()
    wait("a poll that fails", lambda: builder.requests)
    builder.say(ONE)
    wait("the graph", lambda: _environments(harness) == {"env-1"})
    stopping.set()


def test_prunable_ignores_other_sources_and_graphs_on_their_way_out() -> None:
    """Only a live APIGraph that the builder made can be pruned."""

    def graph(name: str, source: str, **more: Any) -> dict[str, Any]:
        return {
            "metadata": {
                "name": name,
                "labels": {names.LABEL_SOURCE: source},
                "annotations": {names.ANNOTATION_STORE: "s1"},
                **more,
            }
        }

    present = [graph("a", "builder"), graph("b", "api"), graph("c", "builder", deletionTimestamp="x")]
    assert prunable(present, Answer({}, '"e"', "s1"), {}) == {"a"}
    assert prunable(present, Answer({"a": {}}, '"e"', "s1"), {}) == set()
    assert read_answer(b'{"graphs": [], "store": 3}', "").store is None
