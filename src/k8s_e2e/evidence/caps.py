"""Keeping files bounded: the head and the tail stay, and the cut says how much is missing between them."""

import re
import shutil
from pathlib import Path

HEAD_BYTES = 32 << 20
TAIL_BYTES = 32 << 20
CUT = re.compile(rb"^\[k8s-e2e: (\d+) bytes cut here\]$", re.MULTILINE)
_BLOCK = 1 << 20


def cut_line(missing: int) -> bytes:
    """Return the line that stands where ``missing`` bytes were cut."""
    return f"[k8s-e2e: {missing} bytes cut here]\n".encode()


class CappedFile:
    """An append-only file of lines: past ``head`` bytes only the last ``tail`` (to twice that) are kept.

    Everything is on disk at once; what is beyond the head waits in two files beside it until `join`.
    """

    def __init__(self, path: Path, *, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._head = head
        self._tail = tail
        self._size = path.stat().st_size if path.exists() else 0
        self._stream = path.open("ab", buffering=0)
        self._tail_size = 0
        self._beyond = False
        self._dropped = 0

    def write(self, data: bytes) -> None:
        """Append whole lines."""
        if not self._beyond and self._size < self._head:
            self._stream.write(data)
            self._size += len(data)
            return
        if not self._beyond or self._tail_size + len(data) > self._tail:
            self._roll()
        self._stream.write(data)
        self._tail_size += len(data)

    def close(self) -> None:
        """Close the file and put its parts together."""
        self._stream.close()
        join(self.path)

    def _roll(self) -> None:
        self._stream.close()
        older, newer, dropped = _beside(self.path)
        if older.exists():
            self._dropped += older.stat().st_size
            dropped.write_text(str(self._dropped))
        if newer.exists():
            newer.replace(older)
        self._stream = newer.open("ab", buffering=0)
        self._beyond = True
        self._tail_size = 0


def join(path: Path) -> None:
    """Append to ``path`` the tail that waits beside it, after a line that says what was cut; no tail: nothing."""
    older, newer, dropped = _beside(path)
    if not newer.exists():
        return
    with path.open("ab") as out:
        missing = int(dropped.read_text()) if dropped.exists() else 0
        if missing:
            out.write(cut_line(missing))
        for part in (older, newer):
            if part.exists():
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, out, _BLOCK)
                part.unlink()
    dropped.unlink(missing_ok=True)


def append_capped(source: Path, out: Path, *, head: int, tail: int) -> int:
    """Append ``source`` to ``out``; of a longer file only ``head`` and ``tail`` bytes, cut at line ends.

    Returns the bytes that were left out.
    """
    size = source.stat().st_size
    with source.open("rb") as stream, out.open("ab") as sink:
        if size <= head + tail:
            shutil.copyfileobj(stream, sink, _BLOCK)
            return 0
        first = stream.read(head)
        first = first[: first.rfind(b"\n") + 1] or first + b"\n"
        sink.write(first)
        stream.seek(size - tail)
        last = stream.read()
        last = last[last.find(b"\n") + 1 :]
        missing = max(0, size - len(first) - len(last))
        sink.write(cut_line(missing))
        sink.write(last)
        return missing


def _beside(path: Path) -> tuple[Path, Path, Path]:
    return (
        path.with_name(f".{path.name}.tail0"),
        path.with_name(f".{path.name}.tail1"),
        path.with_name(f".{path.name}.dropped"),
    )
