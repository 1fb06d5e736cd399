"""The builder's graphs: taken up at once, pruned only on proof."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.buildersync import Answer, BuilderSync, PollError, prunable, read_answer
from turbo_operator.core import names
from turbo_operator.graphs import GraphRefusedError, upsert

ONE, TWO = spec(component("a"), environment="env-1"), spec(component("b"), environment="env-2")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Builder(ThreadingHTTPServer):
    """A builder whose answers a test sets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body: bytes = b""
        self.etag = ""
        self.status = 200
        self.requests: list[dict[str, str]] = []

    def say(self, *graphs: Any, store: str | None = "s1", etag: str | None = None, **more: Any) -> None:
        """Answer with these graphs from now on."""
        document = {"graphs": list(graphs), **({"store": store} if store else {}), **more}
        self.body, self.status = json.dumps(document).encode(), 200
        self.etag = etag if etag is not None else f'"{hash(self.body)}"'


class _Handler(BaseHTTPRequestHandler):
    server: Builder

    def do_GET(self) -> None:
        builder = self.server
        builder.requests.append({k.lower(): v for k, v in self.headers.items()})
        same = builder.status == 200 and builder.etag and self.headers.get("If-None-Match") == builder.etag
        body = b"" if same else builder.body
        self.send_response(304 if same else builder.status)
        self.send_header("Content-Length", str(len(body)))
        if builder.etag:
            self.send_header("ETag", builder.etag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


@pytest.fixture
def builder() -> Iterator[Builder]:
    """A builder on loopback."""
    server = Builder()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def harness() -> Harness:
    """Stores and a place for APIGraphs, without a running loop."""
    return Harness(RecordingApplier(), start=False)


def _sync(builder: Builder, harness: Harness) -> BuilderSync:
    url = f"http://127.0.0.1:{builder.server_address[1]}"
    stopping = threading.Event()
    return BuilderSync(url, 5.0, harness.graphs, harness.writer, harness.actions, stopping, tell=harness._tell)


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
    assert sync.poll() == 0.0
    pause = sync.poll()
    assert 4 < pause <= 5  # this builder does not hold: it is not asked more often than the interval
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
    assert sync.poll() == 0.0
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
    create = harness.writer.create

    def refuse(obj: dict[str, Any]) -> dict[str, Any]:
        if obj["metadata"]["name"] == "env-1":
            raise GraphRefusedError(422, "refused", "spec.components[0].colour: unknown")
        return create(obj)

    monkeypatch.setattr(harness.writer, "create", refuse)
    sync = _sync(builder, harness)
    builder.say(ONE, TWO)
    for _ in range(2):
        sync.poll()
    assert _environments(harness) == {"env-2"}
    assert sync.refused == {"env-1": "spec.components[0].colour: unknown"}
    assert [r["action"] for r in harness.actions.since(0)] == ["Refuse", "Create"]


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


def test_the_thread_goes_on_through_failures(builder: Builder, harness: Harness) -> None:
    """A builder that is away at the start is found as soon as it answers."""
    builder.status = 500
    stopping = threading.Event()
    url = f"http://127.0.0.1:{builder.server_address[1]}"
    sync = BuilderSync(url, 5.0, harness.graphs, harness.writer, harness.actions, stopping, tell=harness._tell)
    sync.start()
    time.sleep(0.3)
    builder.say(ONE)
    deadline = time.monotonic() + 10
    while not _environments(harness) and time.monotonic() < deadline:
        time.sleep(0.05)
    stopping.set()
    assert _environments(harness) == {"env-1"}


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
