"""A proxy between the operator and the API server that kills the operator at one write, before or after it landed.

The operator speaks plain HTTP to it on loopback; it speaks TLS to the API server with what the operator sent. Writes
pass one at a time, so that exactly those before the crash have landed.
"""

import base64
import contextlib
import http.client
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

_CHILDREN = re.compile(r"/namespaces/[^/]+/(configmaps|services|deployments)/([^/?]+)")
_HOP = {"connection", "transfer-encoding", "content-length", "host"}


class CrashingProxy(ThreadingHTTPServer):
    """Counts the writes of children; at number `point` the process `victim` is gone.

    Attributes:
        point: 0 for never.
        landed: Whether the API server has carried out the write by then; the answer is never given.
        writes: What was written, in order.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        cluster = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]
        self.upstream = urlparse(cluster["server"])
        data = cluster.get("certificate-authority-data")
        self.tls = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"), cadata=base64.b64decode(data).decode() if data else None
        )
        self.point = 0
        self.landed = False
        self.victim: subprocess.Popen[bytes] | None = None
        self.writes: list[str] = []
        self.one_at_a_time = threading.Lock()

    def arm(self, point: int, *, landed: bool) -> None:
        """Crash whoever is the next victim at that write."""
        self.point, self.landed, self.writes, self.victim = point, landed, [], None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CrashingProxy

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        child = _CHILDREN.search(self.path)
        if self.command == "GET" or child is None:
            self._pass(body)
            return
        with self.server.one_at_a_time:
            self.server.writes.append(f"{self.command} {child[1]} {child[2]}")
            count, point = len(self.server.writes), self.server.point
            self.close_connection = bool(point) and count >= point
            if not self.close_connection or (count == point and self.server.landed):
                self._pass(body, answer=not self.close_connection)
            if self.close_connection and self.server.victim is not None:
                self.server.victim.kill()
                self.server.victim.wait(10)

    do_GET = do_PATCH = do_POST = do_DELETE = _any  # noqa: N815 - the base's names

    def _pass(self, body: bytes, *, answer: bool = True) -> None:
        upstream = self.server.upstream
        connection = http.client.HTTPSConnection(
            str(upstream.hostname), upstream.port, context=self.server.tls, timeout=60
        )
        with contextlib.closing(connection):
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            connection.request(self.command, self.path, body or None, headers)
            reply = connection.getresponse()
            if not answer:
                reply.read()
                return
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while piece := reply.read1(65536):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


@contextmanager
def crashing_proxy(kubeconfig: Path) -> Iterator[CrashingProxy]:
    """A running proxy to the API server of a kubeconfig."""
    proxy = CrashingProxy(kubeconfig)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
