"""Small stand-ins for what the services talk to and these tests do not have: operator, collector, upstreams."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Server(ThreadingHTTPServer):
    """Serves on a free port of the loopback in a thread."""

    daemon_threads = True
    state: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers with `answer`."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""

    def body(self) -> bytes:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status: int, body: bytes = b"", headers: list[tuple[str, str]] | None = None) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers or []:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def serving(handler: type[Handler], state: Any = None) -> Iterator[str]:
    """Serve ``handler``; yields the base URL."""
    server = Server(("127.0.0.1", 0), handler)
    server.state = state
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class OperatorState:
    """What the operator says; by default it runs whatever builder's graphs hold."""

    def __init__(self) -> None:
        self.builder_url = ""
        self.forced: dict[str, dict[str, Any] | None] = {}
        """Environment id -> status; None = 404."""
        self.down = False
        self.config: bytes = b'{"routing": {"routes": []}, "poll_interval_secs": 0.2}'
        self.changed = threading.Condition()

    def route(self, routes: list[dict[str, Any]]) -> None:
        """Change the gateway's configuration."""
        with self.changed:
            self.config = json.dumps({"routing": {"routes": routes}, "poll_interval_secs": 0.2}).encode()
            self.changed.notify_all()

    def status(self, environment_id: str) -> dict[str, Any] | None:
        """An environment's status."""
        if environment_id in self.forced:
            return self.forced[environment_id]
        answer = httpx.get(f"{self.builder_url}/v1/graphs", timeout=5, trust_env=False)
        graphs = {graph["environmentId"]: graph for graph in answer.json()["graphs"]}
        graph = graphs.get(environment_id)
        return None if graph is None else running(graph)


def running(graph: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The status of an environment whose graph runs."""
    components = [
        {
            "packageName": component["packageName"],
            "phase": "Running",
            "availableReplicas": component["runtime"]["replicas"],
            "replicas": component["runtime"]["replicas"],
            "artifactHash": component["artifactHash"],
        }
        for component in graph["components"]
    ]
    return {
        "environmentId": graph["environmentId"],
        "phase": "Running",
        "buildId": graph["buildId"],
        "observedGeneration": 1,
        "componentStatuses": components,
        "conditions": [],
    } | changes


class OperatorHandler(Handler):
    """The operator's HTTP API, as far as the services use it."""

    def do_GET(self) -> None:
        """Health, status and gateway configuration."""
        state: OperatorState = self.server.state
        if state.down:
            self.answer(503, b'{"error": {"code": "unavailable", "message": "operator is down"}}')
        elif self.path.startswith("/v1/status/"):
            status = state.status(self.path.rpartition("/")[2])
            self.answer(404 if status is None else 200, json.dumps(status or {}).encode())
        elif self.path == "/v1/gateway-config":
            self._config(state)
        else:
            self.answer(200, b"{}")

    def _config(self, state: OperatorState) -> None:
        wait_s = 1.0 if "wait" in self.headers.get("prefer", "") else 0.0
        deadline = time.monotonic() + wait_s
        with state.changed:
            while True:
                etag = f'"{hash(state.config)}"'
                left_s = deadline - time.monotonic()
                if self.headers.get("if-none-match") != etag or left_s <= 0:
                    break
                state.changed.wait(left_s)
            body = state.config
        if self.headers.get("if-none-match") == etag:
            self.answer(304, headers=[("etag", etag)])
        else:
            self.answer(200, body, [("etag", etag)])


class Spans:
    """The spans a collector was sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[dict[str, Any]] = []

    def take(self, document: bytes) -> None:
        """Keep what an export request holds."""
        request = ExportTraceServiceRequest.FromString(document)
        with self._lock:
            for resource in request.resource_spans:
                service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._spans.append(
                            {
                                "service": service,
                                "name": span.name,
                                "trace_id": span.trace_id.hex(),
                                "span_id": span.span_id.hex(),
                                "parent_id": span.parent_span_id.hex(),
                                "status": span.status.code,
                                "attributes": {a.key: a.value for a in span.attributes},
                            }
                        )

    def all(self) -> list[dict[str, Any]]:
        """Every span so far."""
        with self._lock:
            return list(self._spans)

    def of(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace."""
        return [span for span in self.all() if span["trace_id"] == trace_id]


class CollectorHandler(Handler):
    """A collector's OTLP receiver."""

    def do_POST(self) -> None:
        """Take an export."""
        self.server.state.take(self.body())
        self.answer(200)


class UpstreamHandler(Handler):
    """An upstream that shows what reached it and misbehaves on request."""

    def _handle(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/slow":
            time.sleep(1.0)
            self.answer(200, b"late")
        elif path == "/break":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
        elif path == "/stream":
            self._stream()
        elif path == "/missing":
            self.answer(404, b"upstream's own")
        else:
            seen = {
                "method": self.command,
                "path": self.path,
                "headers": self.headers.items(),
                "body": len(self.body()),
            }
            cookies = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("connection", "x-hop"), ("x-hop", "1")]
            self.answer(200, json.dumps(seen).encode(), [*cookies, ("keep-alive", "timeout=9"), ("x-kept", "yes")])

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(4):
            piece = f"piece {number}\n".encode()
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")
