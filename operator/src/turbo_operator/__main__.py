"""The operator's process: settings, logs, traces, HTTP server, and an orderly end."""

import contextlib
import gc
import logging
import queue
import signal
import socket
import sys
import threading

import uvicorn

from turbo_operator import logs, settings, telemetry
from turbo_operator.api import make_app
from turbo_operator.runtime import GRACE_S, Operator

_HTTP_GRACE_S = 8
_SWITCH_INTERVAL_S = 0.001
"""A read of the API waits at most that long for each busy thread, a fifth of Python's default."""
_GC_THRESHOLDS = (50_000, 20, 100)
"""Objects of the API server come in their thousands and stay: looking through them every 700 new ones, Python's
default, costs a twentieth of the CPU time and stops every thread for 80 ms at a time."""

log = logging.getLogger("turbo_operator")


def main() -> int:
    """Run until SIGTERM or SIGINT; returns 0, 1 if the HTTP server ended, 2 if it cannot start as configured."""
    logs.configure("info")
    try:
        configured = settings.load()
        logs.configure(configured.log_level)
        operator = Operator(configured)
        listener = listen(configured)
    except (settings.SettingsError, ValueError) as error:
        log.error("cannot start", extra={"error": str(error)})  # noqa: TRY400 - the message is all there is to say
        return 2
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    provider = telemetry.configure(configured.otlp_endpoint)
    config = uvicorn.Config(
        make_app(operator),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_HTTP_GRACE_S,
    )
    server = uvicorn.Server(config)
    # Not an Event: a signal that comes while its own wait holds its lock would be waited for without end.
    ending: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda came, _: ending.put(came))
    http = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    http.start()
    operator.start()
    address = "{}:{}".format(*listener.getsockname()[:2])
    log.info("listening", extra={"address": address, "mode": configured.mode, "namespace": configured.namespace})
    asked = 0
    while not asked and http.is_alive():
        with contextlib.suppress(queue.Empty):
            asked = ending.get(timeout=1.0)
    if not asked:
        log.error("the HTTP server ended by itself")
    log.info("stopping")
    server.should_exit = True
    if not operator.stop(GRACE_S):
        log.warning("writes in flight were cut off")
    http.join(2.0)
    provider.shutdown()
    log.info("stopped")
    sys.stdout.flush()
    return 0 if asked else 1


def listen(configured: settings.Settings) -> socket.socket:
    """The socket of the HTTP API.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    try:
        listener = socket.create_server((configured.host, configured.port), backlog=512)
    except OSError as error:
        where = f"{configured.host}:{configured.port}"
        raise settings.SettingsError(f"PORT: cannot listen on {where}: {error.strerror}") from error
    listener.set_inheritable(True)
    # asyncio sets it only where it made the socket: without it each answer waits 40 ms for the client's late ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    sys.exit(main())
