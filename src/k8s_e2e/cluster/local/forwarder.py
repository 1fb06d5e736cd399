"""A TCP forwarder: what connects to a listening socket is connected to one address."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any


class _Half(asyncio.Protocol):
    """One side of a forwarded connection; what it reads goes to its peer, at the pace at which the peer writes."""

    def __init__(self, peer: asyncio.Transport | None = None) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.peer:
            self.peer.write(data)

    def eof_received(self) -> bool:
        if self.peer and self.peer.can_write_eof():
            with contextlib.suppress(OSError):
                self.peer.write_eof()
        return True  # the other direction may go on

    def connection_lost(self, _: Exception | None) -> None:
        if self.peer:
            self.peer.close()

    def pause_writing(self) -> None:
        if self.peer:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        if self.peer:
            self.peer.resume_reading()


class _Accepted(_Half):
    """The accepted side: it reads nothing until the other side is connected."""

    def __init__(self, address: tuple[str, int], running: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._address = address
        self._running = running

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(self.transport))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _connect(self, mine: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            far, _ = await loop.create_connection(lambda: _Half(mine), *self._address)
        except OSError:
            mine.abort()  # a reset, as if nothing listened here
            return
        self.peer = far
        if mine.is_closing():
            far.close()
        else:
            mine.resume_reading()


async def forward(listener: socket.socket, address: tuple[str, int]) -> None:
    """Forward every connection to ``listener`` to ``address`` (an IP address, so that nothing is looked up)."""
    running: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Accepted(address, running), sock=listener)
    try:
        await loop.create_future()  # for ever; serve_forever() would wait for open connections when cancelled
    finally:
        server.close()


def serve(listener: socket.socket, address: tuple[str, int], *beside: Coroutine[Any, Any, None]) -> None:
    """Forward until one of the coroutines ``beside`` ends."""

    async def main() -> None:
        tasks = [asyncio.ensure_future(each) for each in (forward(listener, address), *beside)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    asyncio.run(main())
