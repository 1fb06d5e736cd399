"""Running a service: settings, logs, traces, HTTP server, and an orderly end."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeVar

import uvicorn
from starlette.types import ASGIApp

from turbo_services.common import logs, telemetry
from turbo_services.common.changes import Changes
from turbo_services.common.settings import Settings, SettingsError, load

GRACE_S: Final = 8
"""In-flight requests may take this long after SIGTERM; spans are flushed in the 2 s that remain of ten."""

log = logging.getLogger(__name__)
S = TypeVar("S", bound=Settings)


class _Server(uvicorn.Server):
    """Releases held answers as soon as the process is told to stop."""

    changes: Changes | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not here: the signal may have come in the middle of another line, and a stream cannot be written in itself.
        asyncio.get_running_loop().call_soon_threadsafe(self._stopping, signal.Signals(sig).name)
        super().handle_exit(sig, frame)

    def _stopping(self, name: str) -> None:
        log.info("stopping", extra={"signal": name})
        if self.changes is not None:
            self.changes.close()


def run(service: str, kind: type[S], build: Callable[[S], ASGIApp], *, date_header: bool = True) -> int:
    """Serve ``build(settings)`` until SIGTERM or SIGINT; the exit code: 0, or 2 when a setting is wrong.

    ``date_header`` is off for a proxy, which passes on the one of the upstream.
    """
    logs.configure(service, "info")
    try:
        settings = load(kind)
        logs.configure(service, settings.log_level)
        provider = telemetry.configure(service)
        app = build(settings)
        listener = listen(settings)
    except SettingsError as error:
        log.error("cannot start", extra={"error": str(error)})  # noqa: TRY400 - the message is all there is to say
        return 2
    # uvicorn raises the signal again after its orderly end; this process then ends with 0, not by the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=date_header,
        proxy_headers=False,  # the peer is the peer; gateway itself writes x-forwarded-for
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
    )
    server = _Server(config)
    server.changes = getattr(app, "changes", None)
    log.info("listening", extra={"address": "{}:{}".format(*listener.getsockname()[:2])})
    try:
        server.run([listener])
    finally:
        provider.shutdown()
    started = server.started
    log.info("stopped")
    sys.stdout.flush()
    return 0 if started else 1


def listen(settings: Settings) -> socket.socket:
    """The socket of a service's HTTP API.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=512)
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.set_inheritable(True)
    # asyncio sets it only where it made the socket: without it each answer waits 40 ms for the client's late ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
