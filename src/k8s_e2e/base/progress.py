"""How library code says what it is doing: it calls back, and never prints."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str], None]
"""Called with one short line each time something begins, or what is waited for changes."""


def silent(_: str) -> None:
    """Say nothing."""


@contextlib.contextmanager
def ticking(progress: Progress, what: str, *, note: str = "", every_s: float = 20.0) -> Iterator[None]:
    """Say ``what`` now, and again every ``every_s`` seconds with the time spent, until the block ends."""
    suffix = f", {note}" if note else ""
    started = time.monotonic()
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(every_s):
            minutes, seconds = divmod(int(time.monotonic() - started), 60)
            progress(f"{what}... {minutes}:{seconds:02d}{suffix}")

    progress(f"{what}{suffix}")
    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
