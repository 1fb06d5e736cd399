"""A builder that says what a test wants, and fails as it wants."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = Callable[["BuilderHandler"], None]


class Builder(ThreadingHTTPServer):
    """A builder whose answers a test sets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BuilderHandler)
        self.body: bytes = b""
        self.etag = ""
        self.status = 200
        self.requests: list[dict[str, str]] = []
        self.steps: list[Step] = []
        """What the next requests meet in place of an answer, one each."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def say(self, *graphs: Any, store: str | None = "s1", etag: str | None = None, **more: Any) -> None:
        """Answer with these graphs from now on."""
        document = {"graphs": list(graphs), **({"store": store} if store else {}), **more}
        self.body, self.status = json.dumps(document).encode(), 200
        self.etag = etag if etag is not None else f'"{hash(self.body)}"'


class BuilderHandler(BaseHTTPRequestHandler):
    server: Builder

    def do_GET(self) -> None:
        builder = self.server
        builder.requests.append({k.lower(): v for k, v in self.headers.items()})
        if builder.steps:
            builder.steps.pop(0)(self)
            return
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


@contextlib.contextmanager
def fake_builder() -> Iterator[Builder]:
    """A running one on loopback."""
    server = Builder()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
