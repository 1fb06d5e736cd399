"""What the API connection does when the line is cut, silent or refused. The server is a real socket that misbehaves."""

import ast
import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import pytest
import yaml

import k8s_e2e
from k8s_e2e.platform.kube import ApiError, Kube, Resource

PODS = Resource("", "v1", "Pod", "pods", namespaced=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(name, kind="ADDED"):
    """One line of a watch."""
    return json.dumps({"type": kind, "object": {"metadata": {"name": name}}}).encode() + b"\n"


@contextlib.contextmanager
def answering(tmp_path, *pieces, hold_s=0.0):
    """A Kube whose server answers every connection with ``pieces``, then holds it, then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(0.01)
                over.wait(hold_s)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with kube_to(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}") as kube:
            yield kube
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def kube_to(tmp_path, server):
    """A Kube for a server URL."""
    config = tmp_path / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "planted-token"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return Kube.connect(config)


def test_watch_events_may_come_in_any_pieces(tmp_path):
    """Lines are put together over chunks; several in one chunk are taken apart; the end is an end."""
    stream = event("a") + event("b") + event("c", "BOOKMARK") + event("d", "ERROR")
    pieces = [chunk(stream[at : at + 37]) for at in range(0, len(stream), 37)]
    with answering(tmp_path, OK, *pieces, chunk(b"")) as kube, kube.watch(PODS, "n", resource_version="1") as watch:
        assert [(each["type"], each["object"]["metadata"]["name"]) for each in watch] == [
            ("ADDED", "a"),
            ("ADDED", "b"),
            ("BOOKMARK", "c"),
            ("ERROR", "d"),
        ]
        assert watch.ended == "closed by the server"


def test_a_cut_watch_ends_without_half_an_event(tmp_path):
    """What came whole is kept, the rest is dropped, and nothing is raised."""
    cut = event("b")[:20]
    with answering(tmp_path, OK, chunk(event("a")), chunk(cut)) as kube:
        watch = kube.watch(PODS, "n", resource_version="1")
        assert [each["object"]["metadata"]["name"] for each in watch] == ["a"]
        assert watch.ended.startswith("cut: ")


def test_a_silent_watch_ends_at_its_inactivity_deadline(tmp_path):
    """A half-open connection looks like this."""
    began = time.monotonic()
    with answering(tmp_path, OK, chunk(event("a")), hold_s=10) as kube:
        watch = kube.watch(PODS, "n", resource_version="1", inactivity_s=0.3)
        assert len(list(watch)) == 1
        assert watch.ended == "silent"
    assert time.monotonic() - began < 3


def test_closing_wakes_a_watch_that_waits(tmp_path):
    """Another thread may end it at any time."""
    with answering(tmp_path, OK, chunk(event("a")), hold_s=10) as kube:
        watch = kube.watch(PODS, "n", resource_version="1", inactivity_s=10)
        next(watch)
        threading.Timer(0.2, watch.close).start()
        began = time.monotonic()
        assert list(watch) == []
        assert time.monotonic() - began < 3
        assert watch.ended == "closed"


def test_a_garbled_line_is_passed_over(tmp_path):
    """One line that is not JSON does not end a watch."""
    with answering(tmp_path, OK, chunk(b"{nonsense\n\xff\n[]\n" + event("a")), chunk(b"")) as kube:
        assert len(list(kube.watch(PODS, "n", resource_version="1"))) == 1


def test_a_refused_connection_is_status_0(tmp_path):
    """The error names the request and carries no library's type."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with kube_to(tmp_path, f"http://127.0.0.1:{port}") as kube, pytest.raises(ApiError) as raised:
        kube.request("GET", "/version")
    assert raised.value.status == 0
    assert str(raised.value).startswith("GET /version: no answer: ")
    assert "0x" not in str(raised.value)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",),
        (OK, chunk(b'{"a"')),
        (b"nonsense\r\n\r\n",),
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",),
    ],
)
def test_a_broken_answer_is_status_0(tmp_path, pieces):
    """Cut bodies, no HTTP, no answer and no JSON are all one kind of error."""
    with answering(tmp_path, *pieces) as kube, pytest.raises(ApiError) as raised:
        kube.request("GET", "/version", timeout_s=2)
    assert raised.value.status == 0


def test_a_server_that_does_not_answer_is_noticed(tmp_path):
    """The deadline of a request holds."""
    with answering(tmp_path, hold_s=10) as kube, pytest.raises(ApiError, match="timed out"):
        kube.request("GET", "/version", timeout_s=0.3)


def test_a_refusal_carries_the_servers_own_words(tmp_path):
    """Status objects give reason, message and details; any other body is quoted."""
    status = {"kind": "Status", "reason": "Expired", "message": "too old resource version", "details": {"x": 1}}
    body = json.dumps(status).encode()
    answer = b"HTTP/1.1 410 Gone\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(tmp_path, answer) as kube, pytest.raises(ApiError) as raised:
        kube.watch(PODS, "n", resource_version="1")
    assert (raised.value.status, raised.value.reason) == (410, "Expired")
    assert raised.value.details["details"] == {"x": 1}
    plain = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\noverloaded"
    with answering(tmp_path, plain) as kube, pytest.raises(ApiError, match="503 Service Unavailable: overloaded"):
        kube.request("GET", "/version")


@pytest.mark.parametrize("text", ["", "[]", "{", "apiVersion: v1\nkind: Config\n"])
def test_a_wrong_kubeconfig_is_one_clear_error(tmp_path, text):
    """Absent, empty or incomplete: the file is named."""
    config = tmp_path / "kubeconfig"
    config.write_text(text)
    with pytest.raises(ApiError, match="kubeconfig"):
        Kube.connect(config)
    with pytest.raises(ApiError, match="no such file"):
        Kube.connect(tmp_path / "absent")


def test_paths_are_those_of_the_api():
    """Core and grouped, namespaced and not, names escaped."""
    crd = Resource(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
    )
    assert PODS.path("n", "a") == "/api/v1/namespaces/n/pods/a"
    assert PODS.path() == "/api/v1/pods"
    assert crd.path("ignored", "x/y") == "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x%2Fy"
    assert (PODS.api_version, crd.api_version) == ("v1", "apiextensions.k8s.io/v1")


def test_nothing_of_the_client_library_leaks():
    """One module touches `kubernetes`; its transport's errors are known only there and where streams are read."""
    package = Path(k8s_e2e.__file__).parent
    importers = {"kubernetes": set(), "urllib3": set()}
    for file in package.rglob("*.py"):
        if file.is_relative_to(package / "_data"):  # what a wheel brings of the platform
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for root in {name.partition(".")[0] for name in names} & importers.keys():
                importers[root].add(file.relative_to(package).as_posix())
    assert importers["kubernetes"] == {"platform/kube.py"}
    assert importers["urllib3"] == {"platform/kube.py", "platform/streams.py"}
