"""A TCP forwarder: what connects to a listening socket is connected to one address."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any


class _End(asyncio.Protocol):
    """One end of a forwarded connection; what it reads goes to the other end, at the pace at which that one writes."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self._over = False  # nothing more comes from this side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._over = True
        if self.other is None or self.other._over:  # noqa: SLF001 - the same class
            return self._close()
        self.other.transport.write_eof()
        return True  # the other direction goes on

    def connection_lost(self, _: Exception | None) -> None:
        self._over = True
        if self.other:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.transport.resume_reading()

    def _close(self) -> bool:
        for end in (self, self.other):
            if end:
                end.transport.close()  # after what is still to be written
        return True


class _Accepted(_End):
    """The accepted end: it reads nothing until the far end is connected."""

    def __init__(self, address: tuple[str, int], running: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._address = address
        self._running = running

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        # Not at once: Debian 12's Python 3.11.2 begins to read after this method, whatever it said of pausing.
        loop.call_soon(self.transport.pause_reading)
        task = loop.create_task(self._connect())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _connect(self) -> None:
        far = _End()
        far.other = self
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, *self._address)
        except OSError:
            self.transport.abort()
            return
        self.other = far
        if self.transport.is_closing():
            far.transport.close()
        else:
            self.transport.resume_reading()


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
