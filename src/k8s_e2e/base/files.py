"""Writing files so that a reader sees the old one or the new one, never half of one."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base.errors import EnvironmentFailure

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(EnvironmentFailure):
    """The file system has no room; what was there before is untouched."""


@contextlib.contextmanager
def writing(path: Path, *, instead: str = "another --run-dir") -> Iterator[None]:
    """Tell a lack of room in the block as `DiskFull` that names ``path``; other errors pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            message = f"no space left while writing {path}"
            raise DiskFull(message, hint=f"free some space, or choose {instead}") from error
        raise


def write(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write ``data`` to a temporary name beside ``path``, then rename it into place.

    Raises:
        DiskFull: no space left; ``path`` is as it was.
    """
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(raw)
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def dumps(value: Any, *, indent: int = 2) -> str:
    """Write a msgspec struct or plain value as JSON: stable, UTF-8, ending in a newline."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, indent=indent or None, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write ``value`` (msgspec struct or plain data) as indented JSON, atomically."""
    write(path, dumps(value), mode=mode)


class Lines:
    """An append-only JSON-lines file: each line is written whole, so a kill loses at most the last one.

    Raises:
        DiskFull: no space left for the file or its directory.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        self.path = path
        self._torn = False
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)

    def append(self, value: Any) -> None:
        """Append one value as one line.

        Raises:
            DiskFull: no space left.
        """
        data = (b"\n" if self._torn else b"") + msgspec.json.encode(value) + b"\n"
        with writing(self.path):
            while data:
                data = data[os.write(self._fd, data) :]
                self._torn = bool(data)  # a full disk takes a part: the next line must not continue it

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the values of a JSON-lines file; a cut last line is left out, an absent file yields nothing."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line)
