"""List and watch against the fake API server: faults that the real one does not show on demand."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_apiserver import (
    FakeApiServer,
    Handler,
    Step,
    answer,
    cut,
    fake_apiserver,
    gone_in_stream,
    reset,
    silent,
)

from turbo_operator.kube import listwatch
from turbo_operator.kube.listwatch import ListWatch, Pace
from turbo_operator.store import Store

KIND = "ConfigMap"


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    """A fake API server on loopback."""
    with fake_apiserver() as running:
        yield running


@contextlib.contextmanager
def _watching(server: FakeApiServer, pace: Pace | None = None) -> Iterator[tuple[Store, ListWatch]]:
    store, stopping = Store(KIND, "v1"), threading.Event()
    watch = ListWatch(server.client(), store, stopping, pace or Pace(watch_s=5, silence_s=6))
    watch.start()
    try:
        yield store, watch
    finally:
        stopping.set()
        server.over.set()


def _wait(what: str, condition: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


def _make(server: FakeApiServer, name: str) -> dict[str, Any]:
    return server.objects.create(KIND, {"metadata": {"name": name}}, "test", strict=False)


def _drop(server: FakeApiServer, name: str) -> None:
    server.objects.delete(KIND, name, {})


def _names(store: Store) -> set[str]:
    return {obj["metadata"]["name"] for obj in store.all()}


def _gaps(server: FakeApiServer, verb: str) -> list[float]:
    return [round(b.at - a.at, 2) for a, b in itertools.pairwise(server.asked(verb))]


def test_events_are_taken_and_the_watch_resumes_where_it_was(server: FakeApiServer) -> None:
    """After an orderly end the next watch starts at the last event or bookmark, without a list."""
    _make(server, "a")
    at = server.objects.version
    with _watching(server) as (store, _):
        _wait("a watch", lambda: len(server.asked("watch")) >= 1)
        _make(server, "b")
        _drop(server, "a")
        _wait("the events", lambda: _names(store) == {"b"})
        server.objects.create("Service", {"metadata": {"name": "x"}, "spec": {"ports": []}}, "test", strict=False)
        server.end_watches()
        _wait("another watch", lambda: len(server.asked("watch")) >= 2)
        assert _names(store) == {"b"}
    watches = [seen.query for seen in server.asked("watch")]
    assert [query["resourceVersion"] for query in watches] == [str(at), str(server.objects.version)]
    assert watches[0]["allowWatchBookmarks"] == "true"
    assert len(server.asked("list")) == 1


def test_lists_are_read_page_by_page(server: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in pages is one list, at the version of its last page."""
    monkeypatch.setattr(listwatch, "_PAGE", 2)
    for name in "abcde":
        _make(server, name)
    with _watching(server) as (store, _):
        _wait("the list", store.synced.is_set)
        assert _names(store) == set("abcde")
        _wait("the watch", lambda: len(server.asked("watch")) >= 1)
    assert len(server.asked("list")) == 3
    assert server.asked("watch")[0].query["resourceVersion"] == str(server.objects.version)


def test_r06_a_list_that_became_too_old_between_its_pages_is_begun_again(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """410 on a continued list starts a new one, from its first page."""
    monkeypatch.setattr(listwatch, "_PAGE", 2)
    for name in "abc":
        _make(server, name)

    def forget(handler: Handler) -> None:
        _drop(server, "a")
        server.objects.compact()

    server.script("list", lambda handler: None, forget)
    with _watching(server) as (store, _):
        _wait("the list", store.synced.is_set)
        assert _names(store) == {"b", "c"}
    assert ["continue" in seen.query for seen in server.asked("list")] == [False, True, False]
    assert _gaps(server, "list")[1] >= 0.8


@pytest.mark.parametrize("gone", [answer(410, "Expired"), gone_in_stream, None], ids=["status", "stream", "true"])
def test_r06_410_lists_again_and_what_was_deleted_unseen_is_gone(server: FakeApiServer, gone: Step | None) -> None:
    """A version too old, told as a status or inside the stream, leads to one new list that replaces the cache."""
    _make(server, "a")

    def unseen(handler: Handler) -> None:
        _drop(server, "a")
        _make(server, "b")
        server.objects.compact()
        if gone is not None:
            gone(handler)

    server.script("watch", unseen)
    with _watching(server) as (store, _):
        _wait("the second list", lambda: _names(store) == {"b"})
    assert len(server.asked("list")) == 2
    assert _gaps(server, "list")[0] >= 0.8


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_r06_errors_are_waited_out(server: FakeApiServer, status: int) -> None:
    """429 and server errors are tried again, not before 0.8 s and not before Retry-After, and without a new list."""
    server.script("watch", answer(status, retry_after_s=2 if status == 429 else None))
    with _watching(server) as (store, watch):
        _wait("another watch", lambda: len(server.asked("watch")) >= 2)
        _make(server, "b")
        _wait("the event", lambda: _names(store) == {"b"})
        _wait("the error to be forgotten", lambda: watch.last_error is None)
    assert _gaps(server, "watch")[0] >= (2 if status == 429 else 0.8)
    assert len(server.asked("list")) == 1


def test_r22_a_watch_that_is_open_again_is_no_error_though_it_has_nothing_to_say(server: FakeApiServer) -> None:
    """After an error an open watch is enough for readiness: the next event or bookmark may be most of a minute away."""
    server.script("watch", answer(503))
    with _watching(server, Pace(watch_s=60, silence_s=70)) as (_, watch):
        _wait("the error", lambda: watch.last_error is not None)
        _wait("the error to be forgotten", lambda: watch.last_error is None)
        assert len(server.asked("watch")) == 2
        assert watch.silent_s() < 60


@pytest.mark.parametrize("broken", [cut, reset], ids=["cut", "reset"])
def test_r06_a_cut_line_is_not_taken_and_not_lost(server: FakeApiServer, broken: Step) -> None:
    """A stream that breaks goes on after the last complete event."""
    made = []

    def events_then(handler: Handler) -> None:
        made.append(_make(server, "b"))
        handler.begin()
        handler.event("ADDED", made[0])
        if broken is cut:
            handler.chunk(b'{"type":"ADDED","object":{"metadata":{"na')
            handler.close_connection = True
        else:
            time.sleep(0.3)  # a RST overtakes what was sent before it
            handler.reset()
        _make(server, "c")

    server.script("watch", events_then)
    with _watching(server) as (store, _):
        _wait("both events", lambda: _names(store) == {"b", "c"})
    assert server.asked("watch")[1].query["resourceVersion"] == made[0]["metadata"]["resourceVersion"]
    assert _gaps(server, "watch")[0] >= 0.8
    assert len(server.asked("list")) == 1


def test_r06_a_line_that_is_never_json_is_passed_by_with_a_list(server: FakeApiServer) -> None:
    """What cannot be read again and again is no reason to stand still."""

    def rubbish(handler: Handler) -> None:
        handler.begin()
        handler.chunk(b"not json\n")
        handler.chunk(b"")

    server.script("watch", *[rubbish] * 4)
    with _watching(server, Pace(watch_s=5, silence_s=6, backoff_s=0.05, longest_backoff_s=0.1)) as (_, watch):
        _wait("the list", lambda: len(server.asked("list")) >= 2)
        _wait("the error to be forgotten", lambda: watch.last_error is None)


def test_r06_an_error_that_stays_at_one_place_is_passed_by_with_a_list(server: FakeApiServer) -> None:
    """A version that no watch can ever start from, as after a restored backup, is no reason to stand still."""
    server.script("watch", *[answer(504, "Timeout")] * 4)
    with _watching(server, Pace(watch_s=5, silence_s=6, backoff_s=0.05, longest_backoff_s=0.1)) as (_, watch):
        _wait("the list", lambda: len(server.asked("list")) >= 2)
        _wait("the error to be forgotten", lambda: watch.last_error is None)


def test_r05_a_restored_backup_replaces_the_cache(server: FakeApiServer) -> None:
    """When the API server's versions go back, what it lists is what there is."""
    for name in "abc":
        _make(server, name)
    with _watching(server) as (store, _):
        _wait("the first list", lambda: _names(store) == set("abc"))
        _wait("the watch", lambda: len(server.asked("watch")) >= 1)

        def restore(handler: Handler) -> None:
            for name in "abc":
                _drop(server, name)
            server.objects.version = 1
            _make(server, "a")
            _make(server, "d")
            server.objects.compact()
            gone_in_stream(handler)

        server.script("watch", restore)
        server.end_watches()
        _wait("the second list", lambda: _names(store) == {"a", "d"})


def test_r06_a_silent_half_open_stream_is_given_up(server: FakeApiServer) -> None:
    """A watch that neither speaks nor ends when it should is dead, and another one is opened."""
    server.script("watch", silent)
    with _watching(server, Pace(watch_s=1, silence_s=1.2)) as (store, watch):
        _wait("the list", store.synced.is_set)
        _wait("another watch", lambda: len(_gaps(server, "watch")) >= 1)
        assert _gaps(server, "watch")[0] >= 2.0  # the silence, then the backoff
        assert watch.is_alive()


def test_r06_watches_that_end_at_once_are_no_hot_loop(server: FakeApiServer) -> None:
    """A server that ends every watch without a word is asked less and less often."""

    def ended(handler: Handler) -> None:
        handler.begin()
        handler.chunk(b"")

    server.script("watch", *[ended] * 3)
    with _watching(server) as (_, watch):
        _wait("three watches", lambda: len(_gaps(server, "watch")) >= 2)
        assert watch.last_error is not None
    gaps = _gaps(server, "watch")
    assert gaps[0] >= 0.8
    assert gaps[1] >= 1.6


@pytest.mark.parametrize("what", ["BOOKMARK", "ADDED"])
def test_r06_watches_that_end_after_one_event_are_no_hot_loop(server: FakeApiServer, what: str) -> None:
    """A server that ends every watch after a bookmark, or an object, is not asked again before 0.8 s."""

    def ended(handler: Handler) -> None:
        handler.begin()
        handler.event(what, _make(server, f"made-{len(server.seen)}"))
        handler.chunk(b"")

    server.script("watch", *[ended] * 2)
    with _watching(server):
        _wait("three watches", lambda: len(_gaps(server, "watch")) >= 2)
    assert min(_gaps(server, "watch")) >= 0.8


def test_r04_an_event_that_was_never_sent_is_made_good_by_a_list(server: FakeApiServer) -> None:
    """A list follows from time to time, also when no watch ever complains."""
    _make(server, "a")
    server.tamper, server.tampered = lambda _kind, _events: [], True
    with _watching(server, Pace(watch_s=1, silence_s=5, relist_s=1.5)) as (store, _):
        _wait("the first list", lambda: _names(store) == {"a"})
        _drop(server, "a")
        _make(server, "b")
        _wait("what was never told", lambda: _names(store) == {"b"})
    assert len(server.asked("list")) >= 2
