"""The log format of container runtimes: ``<time> <stdout|stderr> <F|P> <text>``, a line each.

``P`` marks a piece of a longer line; the piece with ``F`` ends it. Source: the CRI's logging design in Kubernetes
(kubelet-cri-logging); containerd cuts lines at 16 KiB.
"""

from k8s_e2e.base import clock

LONGEST_LINE = 1 << 20  # a line without end is cut here
_FIELDS = 4


class CriDecoder:
    """Turns the bytes of one log file, as they arrive, into timed lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[bytes, tuple[str, list[bytes], int]] = {}  # stream -> time of its first piece, pieces, bytes

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the lines that ``data`` completes: time (RFC 3339 with microseconds) and text."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            done = self._line(line)
            if done:
                found.append(done)
        return found

    def flush(self) -> list[tuple[str, str]]:
        """Return what never got its end."""
        left = [self._line(self._rest)] if self._rest else []
        self._rest = b""
        left += [(time, _text(pieces)) for time, pieces, _ in self._open.values()]
        self._open.clear()
        return [line for line in left if line]

    def _line(self, line: bytes) -> tuple[str, str] | None:
        fields = line.split(b" ", _FIELDS - 1)
        if len(fields) < _FIELDS - 1 or fields[1] not in (b"stdout", b"stderr"):
            return ("", line.decode("utf-8", "replace")) if line else None
        raw_time, stream, tag = fields[:3]
        piece = fields[3] if len(fields) == _FIELDS else b""
        time, pieces, size = self._open.pop(stream, ("", [], 0))
        time = time or _time(raw_time)
        pieces.append(piece)
        size += len(piece)
        if tag.startswith(b"P") and size < LONGEST_LINE:
            self._open[stream] = (time, pieces, size)
            return None
        return time, _text(pieces)


def _text(pieces: list[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", "replace")


def _time(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    if text.endswith("Z") and "." in text:  # the runtime's own form, nanoseconds: no need to parse it
        head, _, fraction = text[:-1].partition(".")
        return f"{head}.{fraction[:6].ljust(6, '0')}Z"
    try:
        return clock.normal(text)
    except ValueError:
        return ""
