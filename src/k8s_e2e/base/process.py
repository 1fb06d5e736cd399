"""The one way to run a program: an argument list, a deadline, and its last words when it fails."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from k8s_e2e.base.errors import EnvironmentFailure

LAST_WORDS = 15  # lines of output that go into an error message
_TETHER = Path(__file__).with_name("tether.py")
_PIPES_CLOSED_S = 2.0  # after the kill; a grandchild that left the group may hold them for ever


class Finished(NamedTuple):
    """What a program left: ``code``, ``stdout`` and ``stderr`` as text."""

    code: int
    stdout: str
    stderr: str


class ProgramFailed(EnvironmentFailure):
    """A program exited with another code than 0, or ran out of time."""


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    log: Path | None = None,
    tethered: bool = False,
) -> Finished:
    """Run ``argv`` in a process group of its own and wait for it.

    ``env`` is added to the environment. With ``log`` both streams go to that file (appended) instead of memory.
    ``tethered``: should we be killed, the whole group is; a program that a signal ends has code 128 + its number then.

    Raises:
        ProgramFailed: it could not be started, ran longer than ``timeout_s`` (the whole group is killed), or
            (with ``check``) exited with another code than 0.
        DiskFull: no space left for ``log``.
    """
    words = [str(word) for word in argv]
    sink = _opened(log) if log else None
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *words] if tethered else words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        message = f"cannot start {words[0]}: {error.strerror or error}"
        raise ProgramFailed(message, hint="`k8s-e2e doctor` lists what is missing") from error
    finally:
        if sink:
            sink.close()
    try:
        out, err = child.communicate(stdin, timeout=timeout_s)
    except BaseException as error:
        _end_group(child)
        if isinstance(error, subprocess.TimeoutExpired):
            message = f"{_short(words)} did not end within {timeout_s:g} s"
            raise ProgramFailed(message) from error
        raise
    done = Finished(child.returncode, _text(out), _text(err))
    if check and done.code != 0:
        words_left = tail(log.read_text("utf-8", "replace") if log else done.stderr or done.stdout)
        message = f"{_short(words)} exited with {done.code}: {words_left or 'it printed nothing'}"
        raise ProgramFailed(message, hint=f"see {log}" if log else "")
    return done


def _opened(log: Path) -> BinaryIO:
    from k8s_e2e.base import files  # noqa: PLC0415 - costs a cluster's PID 1, which has no log, 60 ms

    with files.writing(log):
        return log.open("ab")


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        child.communicate(timeout=_PIPES_CLOSED_S)
    except subprocess.TimeoutExpired:
        for pipe in (child.stdin, child.stdout, child.stderr):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        child.poll()


def tail(text: str, lines: int = LAST_WORDS) -> str:
    """Return the last ``lines`` lines of ``text``."""
    return "\n".join(text.strip().splitlines()[-lines:])


def _text(raw: bytes | None) -> str:
    return raw.decode("utf-8", "replace") if raw else ""


def _short(words: Sequence[str], limit: int = 120) -> str:
    text = " ".join(words)
    return text if len(text) <= limit else text[: limit - 1] + "…"
