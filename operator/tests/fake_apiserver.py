"""A small API server for faults that a real one does not show on demand.

It keeps objects as the real one does (`fake_objects`), checks the operator's own Role, and answers each request by the
next step scripted for it; where none is, as it should. `test_apiserver_contract.py` keeps it honest.
"""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from fake_objects import Event, Object, Objects, Problem
from sandbox import Sandbox

from turbo_operator.kube import package
from turbo_operator.kube.client import APPLY, RESOURCES, KubeClient

NAMESPACE = "fake"
KINDS = ("APIGraph", "ConfigMap", "Service", "Deployment")
_TOKEN = "operator"
_RBAC = Path(__file__).parents[2] / "infra" / "k8s" / "base" / "operator-rbac.yaml"
_POLL_S = 0.05

Step = Callable[["Handler"], None]
"""What happens to one request. A step that neither answers nor breaks the connection lets the request go on."""


@dataclass(frozen=True)
class Seen:
    """A request: when, what, and whether a scripted step met it."""

    at: float
    verb: str
    """list, watch, get, create, apply, patch, delete, or status (an apply of the status)."""
    kind: str
    name: str
    query: dict[str, str]
    scripted: bool


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "FakeApiServer"
    verb: str
    kind: str
    name: str
    query: dict[str, str]
    body: Any
    answered: bool

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.body = json.loads(raw) if raw else {}
        self.answered = False
        prefix, _, rest = url.path.partition(f"/namespaces/{NAMESPACE}/")
        plural, self.name, subresource = (*rest.split("/"), "", "")[:3]
        kinds = [kind for kind, (_, of, plurals) in RESOURCES.items() if (of, plurals) == (prefix, plural)]
        self.kind = kinds[0] if kinds else ""
        self.verb = self._verb(subresource)
        step = self.server.next_step(self)
        # A client that hangs up is part of the script.
        with contextlib.suppress(OSError):
            try:
                if step is not None:
                    step(self)
                if not self.answered:
                    self._go_on()
            except Problem as problem:
                self._fail(problem)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the base's names

    def _verb(self, subresource: str) -> str:
        if self.command == "GET":
            return "watch" if "watch" in self.query else "get" if self.name else "list"
        if self.command == "PATCH":
            applied = self.headers.get("Content-Type") == APPLY
            return "status" if subresource else "apply" if applied else "patch"
        return {"POST": "create", "DELETE": "delete"}[self.command]

    # -- what steps do ------------------------------------------------------------------------------------------

    def land(self) -> Object:
        """Do what is asked without a word about it."""
        objects, kind, name = self.server.objects, self.kind, self.name
        manager = self.query.get("fieldManager", "unknown")
        strict = self.query.get("fieldValidation") == "Strict"
        if not kind:
            raise Problem(404, "NotFound", "the server could not find the requested resource")
        if self.verb == "list":
            return objects.page(kind, int(self.query.get("limit") or 0), self.query.get("continue", ""))
        if self.verb == "get":
            return objects.get(kind, name)
        if self.verb == "create":
            return objects.create(kind, self.body, manager, strict=strict)
        if self.verb == "patch":
            return objects.patch(kind, name, self.body, manager, strict=strict)
        if self.verb == "delete":
            return objects.delete(kind, name, self.body)
        force, status = self.query.get("force") == "true", self.verb == "status"
        return objects.apply(kind, name, self.body, manager, force=force, status=status)

    def reply(self, status: int, document: Any, **headers: str) -> None:
        """One complete JSON answer."""
        self.answered = True
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        """The head of a stream."""
        self.answered = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """A piece of a stream; empty ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def event(self, what: str, obj: Object) -> None:
        """A watch event."""
        self.chunk(json.dumps({"type": what, "object": obj}).encode() + b"\n")

    def hold(self, seconds: float = 600) -> None:
        """Say nothing."""
        self.answered = True
        self.server.over.wait(seconds)
        self.close_connection = True

    def reset(self) -> None:
        """Break the connection with a RST."""
        self.answered = self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    # -- inside -------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Answer as an API server does."""
        self._allowed()
        if self.verb == "watch":
            self._watch()
        else:
            self.reply(201 if self.verb == "create" else 200, self.land())

    def _fail(self, problem: Problem) -> None:
        """A Status, as the answer or inside a stream that has begun."""
        if self.answered:
            self.event("ERROR", problem.document)
            self.chunk(b"")
        else:
            self.reply(problem.status, problem.document)

    def _allowed(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {_TOKEN}" or not self.kind:
            return  # the administrator
        plural = RESOURCES[self.kind][2]
        verb = {"apply": "patch", "status": "patch"}.get(self.verb, self.verb)
        resource = f"{plural}/status" if self.verb == "status" else plural
        if verb not in self.server.rights[resource]:
            who = f'User "system:serviceaccount:{NAMESPACE}:turbo-operator"'
            text = f'{plural} "{self.name}" is forbidden: {who} cannot {verb} resource "{resource}"'
            raise Problem(403, "Forbidden", text, name=self.name, kind=plural)

    def _watch(self) -> None:
        objects, server = self.server.objects, self.server
        since, epoch = int(self.query.get("resourceVersion") or 0), server.epoch
        ends = time.monotonic() + float(self.query.get("timeoutSeconds") or 1800)
        self.begin()  # that the past is gone is told inside the stream
        while not server.over.is_set() and server.epoch == epoch and time.monotonic() < ends:
            events = objects.events(self.kind, since)
            since = events[-1][0] if events else since
            for _, what, obj in server.tamper(self.kind, events):
                self.event(what, obj)
            with objects.changed:
                objects.changed.wait(_POLL_S)
        if self.query.get("allowWatchBookmarks") == "true" and not server.tampered:
            with objects.changed:  # no event is between the last one sent and this
                events, at = objects.events(self.kind, since), objects.version
            for _, what, obj in events:
                self.event(what, obj)
            bookmark = {"kind": self.kind, "metadata": {"resourceVersion": str(at), "creationTimestamp": None}}
            self.event("BOOKMARK", bookmark)
        self.chunk(b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


class FakeApiServer(ThreadingHTTPServer):
    """The server, what it holds, what it was asked, and what is to go wrong."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects = Objects(NAMESPACE)
        self.seen: list[Seen] = []
        self.over = threading.Event()
        self.epoch = 0
        self.tamper: Callable[[str, list[Event]], list[Event]] = lambda _kind, events: events
        """What becomes of the events of a watch; called again and again, also when there are none."""
        self.tampered = False
        """Whether watches end without a bookmark: what was tampered with is not vouched for."""
        self.weather: Callable[[Handler], Step | None] = lambda _request: None
        """The step for a request that none was scripted for."""
        self.rights: dict[str, set[str]] = defaultdict(set)
        for document in yaml.safe_load_all(_RBAC.read_text()):
            for rule in document.get("rules") or ():
                for resource in rule["resources"]:
                    self.rights[resource] |= set(rule["verbs"])
        self._steps: list[tuple[str, str | None, Step]] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def client(self, *, operator: bool = True) -> KubeClient:
        """A client with the operator's rights, or with all."""
        configuration = package.configuration_class()()
        configuration.host = self.url
        if operator:
            configuration.api_key = {"authorization": f"Bearer {_TOKEN}"}
        return KubeClient(configuration, NAMESPACE)

    def write_kubeconfig(self, directory: Path) -> Path:
        """The operator's kubeconfig."""
        document = {
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "operator"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "operator", "user": {"token": _TOKEN}}],
        }
        path = directory / f"fake-{self.server_address[1]}.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def script(self, verb: str, *steps: Step, kind: str | None = None) -> None:
        """Let the next requests of a verb, of one kind or any, meet these steps, one each."""
        with self._lock:
            self._steps += [(verb, kind, step) for step in steps]

    def unmet(self) -> int:
        """How many steps no request has met yet."""
        with self._lock:
            return len(self._steps)

    def next_step(self, request: Handler) -> Step | None:
        """Take the step for a request, and remember the request."""
        with self._lock:
            found = next((s for s in self._steps if s[0] == request.verb and s[1] in {None, request.kind}), None)
            if found is not None:
                self._steps.remove(found)
            self.seen.append(
                Seen(time.monotonic(), request.verb, request.kind, request.name, request.query, found is not None)
            )
        return self.weather(request) if found is None else found[2]

    def asked(self, verb: str, kind: str | None = None) -> list[Seen]:
        """The requests of a verb so far."""
        return [seen for seen in self.seen if seen.verb == verb and kind in {None, seen.kind}]

    def end_watches(self) -> None:
        """End all open watches in order."""
        self.epoch += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the script."""


@contextlib.contextmanager
def fake_apiserver() -> Iterator[FakeApiServer]:
    """A running fake on loopback."""
    server = FakeApiServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def fake_sandbox(directory: Path) -> Iterator[tuple[FakeApiServer, Sandbox]]:
    """A running fake, and the same helpers for it as for a namespace of the real one."""
    with fake_apiserver() as server:
        yield server, Sandbox(server.client(operator=False), server.write_kubeconfig(directory), directory)


def answer(status: int, reason: str = "Scripted", *, landed: bool = False, retry_after_s: int | None = None) -> Step:
    """A status in place of the answer; the write may have landed all the same."""

    def step(handler: Handler) -> None:
        if landed:
            handler.land()
        headers = {} if retry_after_s is None else {"Retry_After": str(retry_after_s)}
        handler.reply(status, Problem(status, reason, "as scripted").document, **headers)

    return step


def gone_in_stream(handler: Handler) -> None:
    """A watch that begins and then says that its version is too old."""
    handler.begin()
    handler.event("ERROR", Problem(410, "Expired", "too old resource version").document)
    handler.chunk(b"")


def cut(handler: Handler) -> None:
    """An answer, or a line of a watch, that breaks off in its middle."""
    if handler.verb == "watch":
        handler.begin()
        handler.chunk(b'{"type":"ADDED","object":{"metadata":{"na')
    else:
        body = json.dumps(handler.land()).encode()
        handler.answered = True
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def silent(handler: Handler) -> None:
    """A half-open connection: nothing comes any more, and the request is lost."""
    if handler.verb == "watch":
        handler.begin()
    handler.hold()


def reset(handler: Handler) -> None:
    """The connection breaks before the request was read by anybody."""
    handler.reset()


def reset_after(handler: Handler) -> None:
    """The connection breaks after the write has landed."""
    handler.land()
    handler.reset()


def slow(seconds: float) -> Step:
    """An answer that takes its time."""

    def step(handler: Handler) -> None:
        handler.server.over.wait(seconds)

    return step
