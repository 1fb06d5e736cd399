"""Answers that arrive piece by piece: a log that is followed, a watch."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self


class Stream(Iterator[bytes]):
    """A body that arrives piece by piece. ``close()`` ends it from any thread; ``ended`` says why it is over.

    Silence for longer than its inactivity deadline ends it, too: a half-open connection looks like a quiet one.
    """

    def __init__(self, response: Any) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.stream(1 << 16)
        self._closed = threading.Event()
        self.ended = ""

    def __next__(self) -> bytes:
        from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415 - only with a connection

        if self.ended:
            raise StopIteration
        try:
            return next(self._chunks)
        except StopIteration:
            self.ended = "closed by the server"
        except ReadTimeoutError:
            self.ended = "silent"
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            # ValueError, AttributeError: what urllib3 says when close() took the socket away under it
            if not self._closed.is_set() and isinstance(error, (ValueError, AttributeError)):
                raise
            self.ended = f"cut: {error}"
        if self._closed.is_set():
            self.ended = "closed"
        self._response.close()
        raise StopIteration

    def close(self) -> None:
        """End the stream; a thread that is waiting for its next piece is woken."""
        if self._closed.is_set():
            return
        self._closed.set()
        with suppress(ValueError, RuntimeError, OSError):
            self._response.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Watch(Iterator[dict[str, Any]]):
    """The events of one watch: ``{"type": "ADDED|MODIFIED|DELETED|BOOKMARK|ERROR", "object": {...}}``, as sent.

    It ends when the server ends it, when it was silent for too long, when the line was cut (half an event is dropped)
    or by ``close()``. The caller lists and watches again.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lines = _lines(stream)

    @property
    def ended(self) -> str:
        """Why it is over; empty while it is not."""
        return self._stream.ended

    def __next__(self) -> dict[str, Any]:
        for line in self._lines:
            with suppress(json.JSONDecodeError, UnicodeDecodeError):
                event = json.loads(line)
                if isinstance(event, dict) and "type" in event:
                    return event
        raise StopIteration

    def close(self) -> None:
        """End it, from any thread."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Split pieces into lines; what is left without a newline at the end was cut and is dropped."""
    rest = b""
    for chunk in chunks:
        if b"\n" not in chunk:
            rest += chunk
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
