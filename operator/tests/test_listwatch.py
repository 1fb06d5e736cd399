"""List and watch against a scripted API server: only for faults a real one does not show on demand."""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from turbo_operator.kube import package
from turbo_operator.kube.client import ApiError, KubeClient, Unreachable
from turbo_operator.kube.listwatch import ListWatch, Pace
from turbo_operator.store import Store

Step = Callable[["Handler"], None]


def _obj(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


class Handler(BaseHTTPRequestHandler):
    """Answers with the next step of the script; the last one repeats."""

    protocol_version = "HTTP/1.1"
    server: "ScriptedServer"

    def do_GET(self) -> None:
        """Lists and watches have a script each."""
        query = parse_qs(urlparse(self.path).query)
        script = self.server.watches if "watch" in query else self.server.lists
        with self.server.lock:
            self.server.seen.append((time.monotonic(), "watch" if "watch" in query else "list", query))
            step = script.pop(0) if len(script) > 1 else script[0]
        with contextlib.suppress(OSError):
            step(self)

    def reply(self, status: int, document: Any, **headers: str) -> None:
        """One complete JSON answer."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        """The head of a stream."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """A piece of a stream; empty ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def event(self, kind: str, obj: dict[str, Any]) -> None:
        """A watch event."""
        self.chunk(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def hold(self, seconds: float = 60) -> None:
        """Say nothing until the test is over."""
        self.server.over.wait(seconds)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


class ScriptedServer(ThreadingHTTPServer):
    """The server and what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lists: list[Step] = [_listing()]
        self.watches: list[Step] = [_quiet]
        self.seen: list[tuple[float, str, Any]] = []
        self.lock = threading.Lock()
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the script."""


def _listing(*objects: dict[str, Any], at: int = 10) -> Step:
    return lambda h: h.reply(200, {"metadata": {"resourceVersion": str(at)}, "items": list(objects)})


def _quiet(h: Handler) -> None:
    h.begin()
    h.hold()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted API server on loopback."""
    scripted = ScriptedServer()
    thread = threading.Thread(target=scripted.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield scripted
    scripted.over.set()
    scripted.shutdown()
    scripted.server_close()


def _client(server: ScriptedServer) -> KubeClient:
    configuration = package.configuration_class()()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    return KubeClient(configuration, "ns")


@contextlib.contextmanager
def _watching(server: ScriptedServer, pace: Pace | None = None) -> Iterator[tuple[Store, ListWatch]]:
    store, stopping = Store("ConfigMap", "v1"), threading.Event()
    watch = ListWatch(_client(server), store, stopping, pace or Pace(watch_s=5, silence_s=6))
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


def _names(store: Store) -> set[str]:
    return {obj["metadata"]["name"] for obj in store.all()}


def _gaps(server: ScriptedServer, kind: str) -> list[float]:
    times = [at for at, what, _ in server.seen if what == kind]
    return [round(b - a, 2) for a, b in itertools.pairwise(times)]


def test_events_are_taken_and_the_watch_resumes_where_it_was(server: ScriptedServer) -> None:
    """After an orderly end the next watch starts at the last event or bookmark, without a list."""

    def first(h: Handler) -> None:
        h.begin()
        h.event("ADDED", _obj("b", 11))
        h.event("DELETED", _obj("a", 12))
        h.event("BOOKMARK", {"metadata": {"resourceVersion": "40"}})
        h.chunk(b"")

    server.lists = [_listing(_obj("a", 5))]
    server.watches = [first, _quiet]
    with _watching(server) as (store, _):
        _wait("two watches", lambda: len(_gaps(server, "watch")) == 1)
        assert _names(store) == {"b"}
    watches = [query for _, kind, query in server.seen if kind == "watch"]
    assert [query["resourceVersion"] for query in watches] == [["10"], ["40"]]
    assert watches[0]["allowWatchBookmarks"] == ["true"]
    assert sum(kind == "list" for _, kind, _ in server.seen) == 1


def test_lists_are_read_page_by_page(server: ScriptedServer) -> None:
    """A list in pages is one list, at the version of its last page."""
    server.lists = [
        lambda h: h.reply(200, {"metadata": {"resourceVersion": "9", "continue": "t"}, "items": [_obj("a", 1)]}),
        lambda h: h.reply(200, {"metadata": {"resourceVersion": "9"}, "items": [_obj("b", 2)]}),
    ]
    with _watching(server) as (store, _):
        _wait("the list", store.synced.is_set)
        assert _names(store) == {"a", "b"}


def _gone(h: Handler) -> None:
    h.reply(410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})


def _gone_inside(h: Handler) -> None:
    h.begin()
    h.event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})
    h.chunk(b"")


@pytest.mark.parametrize("gone", [_gone, _gone_inside], ids=["status", "stream"])
def test_r06_410_lists_again_and_what_was_deleted_unseen_is_gone(server: ScriptedServer, gone: Step) -> None:
    """A version too old, told as a status or inside the stream, leads to one new list that replaces the cache."""
    server.lists = [_listing(_obj("a", 5)), _listing(_obj("b", 20), at=20)]
    server.watches = [gone, _quiet]
    with _watching(server) as (store, _):
        _wait("the second list", lambda: _names(store) == {"b"})
    assert _gaps(server, "list")[0] >= 0.8


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_r06_errors_are_waited_out(server: ScriptedServer, status: int) -> None:
    """429 and server errors are tried again, not before 0.8 s and not before Retry-After, and without a new list."""
    retry_after = {"Retry_After": "2"} if status == 429 else {}

    def bad(h: Handler) -> None:
        h.reply(status, {"kind": "Status", "code": status, "reason": "x", "message": "later"}, **retry_after)

    def good(h: Handler) -> None:
        h.begin()
        h.event("ADDED", _obj("b", 11))
        h.hold()

    server.watches = [bad, good]
    with _watching(server) as (store, watch):
        _wait("the event", lambda: _names(store) == {"b"})
        _wait("the error to be forgotten", lambda: watch.last_error is None)
    assert _gaps(server, "watch")[0] >= (2 if status == 429 else 0.8)
    assert sum(kind == "list" for _, kind, _ in server.seen) == 1


def test_r06_a_cut_line_is_not_taken_and_not_lost(server: ScriptedServer) -> None:
    """A stream that breaks inside a line goes on after the last complete event."""

    def cut(h: Handler) -> None:
        h.begin()
        h.event("ADDED", _obj("b", 11))
        h.chunk(b'{"type":"ADDED","object":{"metadata":{"na')
        h.close_connection = True

    def rest(h: Handler) -> None:
        h.begin()
        h.event("ADDED", _obj("c", 12))
        h.hold()

    server.watches = [cut, rest]
    with _watching(server) as (store, _):
        _wait("both events", lambda: _names(store) == {"b", "c"})
    watches = [query for _, kind, query in server.seen if kind == "watch"]
    assert watches[1]["resourceVersion"] == ["11"]
    assert _gaps(server, "watch")[0] >= 0.8


def test_r06_a_line_that_is_never_json_is_passed_by_with_a_list(server: ScriptedServer) -> None:
    """What cannot be read again and again is no reason to stand still."""

    def rubbish(h: Handler) -> None:
        h.begin()
        h.chunk(b"not json\n")
        h.chunk(b"")

    server.lists = [_listing(), _listing(_obj("a", 30), at=30)]
    server.watches = [rubbish]
    with _watching(server, Pace(watch_s=5, silence_s=6, backoff_s=0.05, longest_backoff_s=0.1)) as (store, _):
        _wait("the list", lambda: _names(store) == {"a"})


def test_r06_a_silent_half_open_stream_is_given_up(server: ScriptedServer) -> None:
    """A watch that neither speaks nor ends when it should is dead, and another one is opened."""
    with _watching(server, Pace(watch_s=1, silence_s=1.2)) as (store, watch):
        _wait("the list", store.synced.is_set)
        _wait("another watch", lambda: len(_gaps(server, "watch")) == 1)
        assert _gaps(server, "watch")[0] >= 2.0  # the silence, then the backoff
        assert watch.is_alive()


def test_r06_watches_that_end_at_once_are_no_hot_loop(server: ScriptedServer) -> None:
    """A server that ends every watch without a word is asked less and less often."""

    def ended(h: Handler) -> None:
        h.begin()
        h.chunk(b"")

    server.watches = [ended]
    with _watching(server) as (_, watch):
        _wait("three watches", lambda: len(_gaps(server, "watch")) == 2)
        assert watch.last_error is not None
    assert _gaps(server, "watch")[0] >= 0.8


def test_the_client_tells_an_answer_from_none(server: ScriptedServer) -> None:
    """A refusal is an ApiError with status and reason; a lost answer may have been a write, a refused socket not."""
    client = _client(server)
    server.lists = [lambda h: h.reply(403, {"reason": "Forbidden", "message": "no", "details": {"causes": []}})]
    with pytest.raises(ApiError, match="403 Forbidden: no"):
        client.request("GET", client.path("ConfigMap"))
    server.lists = [lambda h: setattr(h, "close_connection", True)]
    with pytest.raises(Unreachable) as lost:
        client.request("GET", client.path("ConfigMap"))
    assert lost.value.sent
    configuration = package.configuration_class()()
    configuration.host = "http://127.0.0.1:1"
    with pytest.raises(Unreachable) as refused:
        KubeClient(configuration, "ns").request("GET", "/")
    assert not refused.value.sent
