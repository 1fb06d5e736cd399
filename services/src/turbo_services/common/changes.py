"""Waiting for a change: conditional requests (ETag, RFC 9110) that can be held open (``Prefer: wait``, RFC 7240)."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

MAX_WAIT_S: Final = 60.0
_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=,|;|$)", re.IGNORECASE)
_OPENAPI_HEADER: Final = {"schema": {"type": "string"}, "in": "header", "required": False}
POLL_HEADERS: Final[tuple[Mapping[str, object], ...]] = (
    {"name": "If-None-Match", "description": "ETag of the answer the caller has", **_OPENAPI_HEADER},
    {"name": "Prefer", "description": "wait=N: hold an unchanged answer up to N seconds", **_OPENAPI_HEADER},
)
"""The header parameters of an operation that is answered by `conditional`, as OpenAPI."""


class Changes:
    """Wakes everybody who waits for the next change; for one event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._closed = False

    def notify(self) -> None:
        """Something changed."""
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    def close(self) -> None:
        """Wake everybody and let nobody wait again: the process is about to end."""
        self._closed = True
        self.notify()

    @property
    def closed(self) -> bool:
        """Whether nobody may wait any more."""
        return self._closed

    def mark(self) -> asyncio.Event:
        """Take this before looking; a change after it is not missed by `wait`."""
        return self._next

    async def wait(self, mark: asyncio.Event, timeout_s: float) -> bool:
        """Wait for a change after ``mark``; False when none came in ``timeout_s``."""
        if self._closed:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                await mark.wait()
        except TimeoutError:
            return False
        return True


def etag_of(body: bytes) -> str:
    """A strong entity tag of ``body``."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def preferred_wait_s(headers: Headers) -> float:
    """Seconds of ``Prefer: wait=N``, 0 without one, at most `MAX_WAIT_S`."""
    match = _WAIT.search(",".join(headers.getlist("prefer")))
    return min(float(match.group(1)), MAX_WAIT_S) if match else 0.0


def _has(headers: Headers, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for value in headers.getlist("if-none-match") for tag in value.split(",")]
    return etag in tags or "*" in tags


async def conditional(request: Request, render: Callable[[], bytes], changes: Changes) -> Response:
    """Answer with ``render()``, or 304 when the caller has that already.

    An answer the caller has is held up to the seconds it prefers; a change answers at once.
    """
    wait_s = preferred_wait_s(request.headers)
    deadline = time.monotonic() + wait_s
    headers = {"cache-control": "no-cache", "vary": "prefer"}
    if wait_s:
        headers["preference-applied"] = f"wait={wait_s:.0f}"
    while True:
        mark = changes.mark()
        body = render()
        etag = etag_of(body)
        headers["etag"] = etag
        if not _has(request.headers, etag):
            return Response(body, media_type="application/json", headers=headers)
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not await changes.wait(mark, left_s):
            return Response(status_code=304, headers=headers)
