"""How a service listens."""

import socket

from turbo_services.common.server import listen
from turbo_services.common.settings import Settings


def test_answers_do_not_wait_for_a_clients_late_acknowledgement() -> None:
    """Nagle's algorithm is off: with it each answer on a connection that is kept takes 40 ms."""
    with (
        listen(Settings(host="127.0.0.1", port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
