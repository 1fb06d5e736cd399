"""One `up` or `down` of a cluster at a time. The lock ends with its holder and leaves no file."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from k8s_e2e.base.errors import EnvironmentFailure, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for


@contextlib.contextmanager
def locked(directory: Path, name: str, *, timeout_s: float, progress: Progress) -> Iterator[None]:
    """Hold the lock of cluster ``name``, whose lock file is in ``directory``.

    Raises:
        EnvironmentFailure: another process has had it for ``timeout_s``.
    """
    path = _path(directory, name)
    handle = _try(path)
    if handle is None:
        progress(f"waiting for another process that is at work on cluster {name}")

        def attempt() -> int | Pending:
            got = _try(path)
            return Pending("another process has it") if got is None else got

        try:
            handle = wait_for(f"the lock of cluster {name}", attempt, timeout_s=timeout_s)
        except WaitTimeout as error:
            raise EnvironmentFailure(error.message, hint=f"see which process has {path} open") from error
    with _held(path, handle):
        yield


@contextlib.contextmanager
def locked_now(directory: Path, name: str) -> Iterator[bool]:
    """Hold the lock of cluster ``name`` if nobody else does; say whether."""
    path = _path(directory, name)
    handle = _try(path)
    if handle is None:
        yield False
        return
    with _held(path, handle):
        yield True


def _path(directory: Path, name: str) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / f".{name}.lock"


def _try(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(handle)):
            return handle
    except (BlockingIOError, FileNotFoundError):  # somebody has it, or has just removed this very file
        pass
    os.close(handle)
    return None


@contextlib.contextmanager
def _held(path: Path, handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
