"""One process at a time where two would do the same work twice."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from k8s_e2e.base.errors import EnvironmentFailure, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for


@contextlib.contextmanager
def locked(path: Path, *, what: str, timeout_s: float, progress: Progress) -> Iterator[None]:
    """Hold the lock file ``path``; it goes with the process, however that ends.

    Raises:
        EnvironmentFailure: another process held it all the time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        began = time.monotonic()

        def attempt() -> Pending | bool:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Pending(f"another process is at it, {time.monotonic() - began:.0f} s so far")
            return True

        if isinstance(attempt(), Pending):
            progress(f"waiting for another process: {what}")
            try:
                wait_for(what, attempt, timeout_s=timeout_s, interval_s=0.2)
            except WaitTimeout as error:
                raise EnvironmentFailure(error.message, hint=f"it holds {path}") from error
        yield
