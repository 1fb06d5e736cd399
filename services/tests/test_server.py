"""How a service listens, and how it ends."""

import socket
import threading
from typing import Any

import httpx

from turbo_services.common.server import listen
from turbo_services.common.settings import Settings

_LEAST_PIPE = 15_000
"""Bytes: Linux has room for 64 KiB in a pipe, macOS for 16 or more; a line that does not fit leaves a little free."""


def test_answers_do_not_wait_for_a_clients_late_acknowledgement() -> None:
    """Nagle's algorithm is off: with it each answer on a connection that is kept takes 40 ms."""
    with (
        listen(Settings(host="127.0.0.1", port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_signal_in_the_middle_of_a_log_line_does_not_break_it(launch: Any) -> None:
    """SIGTERM comes while a line waits for a full pipe: that line is written whole, and the end is logged."""
    petstore = launch("petstore", PYTHONUNBUFFERED="")  # only a stream with a buffer breaks when written in a write
    petstore.reading.clear()  # the pipe fills, and the service waits in the middle of a line
    _ask_until_it_hangs(petstore)
    threading.Timer(0.5, petstore.reading.set).start()  # by then the handler has run, within the write
    assert petstore.terminate() == 0
    assert not [line for line in petstore.lines if line.get("not_json")]
    own = [line["msg"] for line in petstore.lines if line["logger"] == "turbo_services.common.server"]
    assert own == ["listening", "stopping", "stopped"]


def _ask_until_it_hangs(service: Any) -> None:
    """Ask until no answer comes, for there is no room for its log line in the pipe."""
    for _ in range(5000):
        try:
            service.http.get("/pets", timeout=2)
        except httpx.ReadTimeout:
            assert service.unread() > _LEAST_PIPE, "it hangs for another reason"
            return
    raise AssertionError("5,000 lines went into a pipe that nobody reads")
