"""The kit's requests: trace context, records, what is repeated and what never is. The server is a real one."""

import http.server
import json
import threading
import time
from pathlib import Path

import pytest

from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.files import Lines, read_lines
from k8s_e2e.model.profile import Profile, ServicePort, TraceSource
from k8s_e2e.platform.http import Requester, Unanswered
from k8s_e2e.platform.portforward import ForwardFailed

PROFILE = Profile(
    root=Path("/"),
    name="p",
    overlay="o",
    namespace="n",
    services=(ServicePort(name="registry", port=8081),),
    traces=TraceSource(service="jaeger", port=16686),
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers, or breaks the connection as often as it is told to."""

    def do_GET(self):
        """Remember the request; then answer, break, drip or stay silent."""
        length = int(self.headers.get("content-length", 0))
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), self.rfile.read(length)))
        if self.server.breaks > 0:
            self.server.breaks -= 1
            self.close_connection = True
            return
        if self.path == "/silent":
            time.sleep(2)
            return
        self.send_response(418 if self.path == "/teapot" else 200)
        self.send_header("X-Thing", "a")
        self.end_headers()
        if self.path == "/drip":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        self.wfile.write(b'{"ok": true}')

    do_POST = do_GET  # noqa: N815 - the name http.server asks for

    def log_message(self, *_):
        """Stay quiet."""


class Forwards:
    """Stands in for port-forwards: the server's own port, or a failure."""

    def __init__(self, port):
        self.port = port
        self.asked = []

    def url(self, service, port, *, timeout_s=None):
        """The server's URL."""
        self.asked.append((service, port))
        if not self.port:
            message = "no port-forward to registry:8081 within 1 s: no pod is ready"
            raise ForwardFailed(message, hint="kubectl get pods")
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def server():
    """A server on loopback."""

    class Server(http.server.ThreadingHTTPServer):
        """Drops the noise of connections that a client gave up."""

        daemon_threads = True

        def handle_error(self, *_):
            pass

    running = Server(("127.0.0.1", 0), Handler)
    running.seen, running.breaks = [], 0
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def requester(server, tmp_path):
    """A requester to that server, with its log at ``.path``."""
    log = Lines(tmp_path / "requests.jsonl")
    made = Requester(Forwards(server.server_address[1]), PROFILE, log, 1.0)
    made.path = log.path
    yield made
    made.close()
    log.close()


def test_a_request_carries_a_sampled_trace_context_and_is_remembered(requester, server):
    """What the service got, what the caller gets and what the file says are the same trace."""
    reply = requester.send("registry", "POST", "/v1/packages?x=1", step="s/01", json={"a": 1}, headers={"X-A": "b"})
    (method, path, headers, body) = server.seen[0]
    assert (method, path, json.loads(body)) == ("POST", "/v1/packages?x=1", {"a": 1})
    assert headers["traceparent"] == reply.traceparent
    assert headers["x-a"] == "b"
    assert reply.traceparent == f"00-{reply.trace_id}-{reply.traceparent[36:52]}-01"
    assert (reply.status, reply.json(), reply.headers["x-thing"]) == (200, {"ok": True}, "a")
    (record,) = read_lines(requester.path)
    assert record["trace_id"] == reply.trace_id
    assert (record["step"], record["service"], record["status"], record["url"]) == ("s/01", "registry", 200, reply.url)
    assert record["duration_s"] == reply.duration_s > 0
    assert "error" not in record


def test_untraced_requests_say_so_and_leave_no_record(requester, server):
    """The service is told not to sample."""
    requester.send("registry", "GET", "/", step="s", trace=False)
    assert server.seen[0][2]["traceparent"].endswith("-00")
    assert list(read_lines(requester.path)) == []


def test_an_error_status_is_an_answer(requester):
    """Only the caller knows what it expected."""
    assert requester.send("registry", "GET", "/teapot", step="s").status == 418


def test_a_get_whose_connection_broke_is_repeated_and_says_so(requester, server):
    """The record holds the number of attempts and the first error; the trace stays the same."""
    server.breaks = 2
    assert requester.send("registry", "GET", "/", step="s").status == 200
    assert len({headers["traceparent"] for _, _, headers, _ in server.seen}) == 1
    (record,) = read_lines(requester.path)
    assert (record["attempts"], record["status"]) == (3, 200)
    assert record["error"].startswith("repeated: RemoteProtocolError")


def test_a_post_is_never_sent_twice(requester, server):
    """A broken connection is an error at once: the first one may have been acted on."""
    server.breaks = 1
    with pytest.raises(Unanswered, match="registry did not answer POST") as raised:
        requester.send("registry", "POST", "/", step="s", json={})
    assert len(server.seen) == 1
    assert raised.value.record.attempts == 1
    (record,) = read_lines(requester.path)
    assert record["error"] == raised.value.record.error


@pytest.mark.parametrize("path", ["/silent", "/drip"])
def test_the_deadline_holds_for_the_whole_answer(requester, path):
    """Silence and a body that never ends are both noticed in time, and not repeated."""
    began = time.monotonic()
    with pytest.raises(Unanswered, match="ReadTimeout") as raised:
        requester.send("registry", "GET", path, step="s", timeout_s=0.4)
    assert time.monotonic() - began < 1.5
    assert raised.value.record.attempts == 1


def test_without_a_forward_the_error_says_what_the_forward_saw(tmp_path):
    """The pod's state reaches the reader, and the request is on record."""
    log = Lines(tmp_path / "requests.jsonl")
    requester = Requester(Forwards(0), PROFILE, log)
    with pytest.raises(Unanswered, match="no pod is ready; kubectl get pods"):
        requester.send("registry", "GET", "/v1", step="s")
    (record,) = read_lines(log.path)
    assert (record.get("status", 0), record["url"]) == (0, "/v1")
    requester.close()
    log.close()


def test_ports_come_from_the_profile_the_trace_source_or_the_caller(server, requester):
    """An unknown service without a port is a usage error that names the known ones."""
    forwards = requester._forwards
    requester.send("jaeger", "GET", "/", step="s")
    requester.send("svc-petstore", "GET", "/", step="s", port=8080)
    assert forwards.asked == [("jaeger", 16686), ("svc-petstore", 8080)]
    with pytest.raises(UsageError, match=r"no service 'petstore'.*known: registry"):
        requester.send("petstore", "GET", "/", step="s")
