"""What a stage says while its kernel works: the progress lines of the log, passed on as they are written."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from k8s_e2e.base.journal import PROGRESS
from k8s_e2e.base.progress import Progress

POLL_S = 0.1


@contextlib.contextmanager
def followed(log: Path, progress: Progress) -> Iterator[None]:
    """Pass the progress lines that are appended to ``log`` during the block on to ``progress``."""
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(log, _size(log), done, progress), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(2)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _follow(log: Path, position: int, done: threading.Event, progress: Progress) -> None:
    rest = b""
    while True:
        last = done.is_set()
        with contextlib.suppress(OSError), log.open("rb") as stream:
            stream.seek(position)
            rest += stream.read()
            position = stream.tell()
        *lines, rest = rest.split(b"\n")
        for line in lines:
            text = _progress_of(line)
            if text is not None:
                progress(f"  {text}")
        if last:
            return
        time.sleep(POLL_S)


def _progress_of(line: bytes) -> str | None:
    """Return the text of a progress line, None for any other line, a torn one included."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return str(entry.get("msg")) if isinstance(entry, dict) and entry.get("logger") == PROGRESS else None
