"""The flight recorder's control side: start it beside the stages, let it catch up, end it.

The recorder is a process in a session of its own (see `recording`), so that it outlives the notebook kernel that
started it. It holds a lock on ``<state directory>/recorders/<run>/alive`` as long as it lives: nothing else is needed
to know whether it does, and a recycled pid can fool nobody.
"""

import fcntl
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from k8s_e2e.base import files
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence.recording import HANDOVER, Config
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.settings import Settings

START_TIMEOUT_S = 20.0


class RecorderFailed(EnvironmentFailure):
    """The recorder did not start, did not end in time, or had ended before its time."""


def place(run: RunDir, settings: Settings) -> Path:
    """Return the directory of the run's recorder in the state directory (0700)."""
    name = hashlib.sha256(str(run.root.resolve()).encode()).hexdigest()[:16]
    return settings.state_dir / "recorders" / name


def start(run: RunDir, cluster: Cluster, namespace: str, profile: Profile, settings: Settings) -> int:
    """Start recording ``namespace`` into ``run`` and return the recorder's pid once its first lists are done.

    A run that is being recorded already keeps its recorder. After `drain` it takes up where it left off.

    Raises:
        RecorderFailed: it ended at once, or said nothing for `START_TIMEOUT_S`; its last words.
    """
    state = place(run, settings)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    starting = os.open(state / "starting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = os.open(state / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(starting, fcntl.LOCK_EX)  # of two that start at once the second finds the first's recorder
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(state)
        config = Config(
            run_dir=str(run.root.resolve()),
            namespace=namespace,
            kubeconfig=str(cluster.kubeconfig),
            context=cluster.context,
            pod_logs=str(cluster.pod_logs) if cluster.pod_logs else "",
            custom_resources=[(kind.api_version, kind.kind) for kind in profile.custom_resources],
        )
        files.write_json(state / "config.json", config, mode=0o600)
        return _launch(state, lock)
    finally:
        os.close(lock)  # the recorder has its own copy
        os.close(starting)


def alive(run: RunDir, settings: Settings) -> bool:
    """Tell whether the run is being recorded."""
    return _wait_gone(place(run, settings), 0.0) is False


def drain(run: RunDir, settings: Settings, *, redactor: Redactor | None = None, timeout_s: float = 15.0) -> bool:
    """Let the recorder catch up with the cluster, write everything out, and end.

    Returns whether there was one. ``redactor`` learns the Secret values that the recorder has seen, those of deleted
    Secrets, too: they go from memory to memory.

    Raises:
        RecorderFailed: it did not end in time, and was killed; or it had ended before, and nobody had asked it to.
            What it had seen is on disk.
    """
    with _handover(place(run, settings), redactor) as receive:
        if _end(run, settings, signal.SIGUSR1, timeout_s, receive):
            return True
    if gap := _gap(run):
        raise RecorderFailed(gap)
    return False


def stop(run: RunDir, settings: Settings, *, forget: bool = True, timeout_s: float = 5.0) -> bool:
    """End the recorder at once, what it has seen written out. Returns whether there was one.

    ``forget`` also removes its directory with the run's salt: for a run of which no more will be collected.

    Raises:
        RecorderFailed: it did not end in time, and was killed; what it had seen is on disk.
    """
    try:
        return _end(run, settings, signal.SIGTERM, timeout_s)
    finally:
        if forget:
            shutil.rmtree(place(run, settings), ignore_errors=True)


def _launch(state: Path, lock: int) -> int:
    reading, writing = os.pipe()
    errors = state / "stderr.txt"
    (state / "pid").unlink(missing_ok=True)
    try:
        with errors.open("wb") as sink:
            child = subprocess.Popen(
                [sys.executable, "-m", "k8s_e2e.evidence.recording", str(state / "config.json"), str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=(writing, lock),
                start_new_session=True,
                cwd="/",
            )
        _wait_forked(child)
        os.close(writing)
        writing = -1
        words = _first_words(reading)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if words.startswith("ready"):
        return _holder(state)
    _kill(_pid(state), signal.SIGKILL)
    last = words.removeprefix("failed: ") or errors.read_text("utf-8", "replace").strip()[-1000:]
    message = f"the recorder did not start: {last or f'it said nothing for {START_TIMEOUT_S:g} s'}"
    raise RecorderFailed(message)


def _wait_forked(child: subprocess.Popen[bytes]) -> None:
    """Wait for the first process, which forks the recorder and ends."""
    try:
        child.wait(START_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        message = f"the recorder did not start: its process was not up within {START_TIMEOUT_S:g} s"
        raise RecorderFailed(message, hint="the machine may be overloaded; try again") from error


def _first_words(reading: int) -> str:
    said = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(reading, 4096) if ready else b""
        if not data:
            break
        said += data
    return said.decode("utf-8", "replace").strip()


@contextmanager
def _handover(state: Path, redactor: Redactor | None) -> Iterator[Callable[[], None]]:
    """Yield a function that receives what the recorder hands over as it ends; at the end ``redactor`` learns it."""
    fifo = state / HANDOVER
    if redactor is None or not state.is_dir():
        yield lambda: None
        return
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo, 0o600)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    received = bytearray()

    def receive() -> None:
        with suppress(BlockingIOError):
            while data := os.read(reading, 1 << 16):
                received.extend(data)

    try:
        yield receive
        receive()
    finally:
        os.close(reading)
        fifo.unlink(missing_ok=True)
        with suppress(msgspec.DecodeError):  # of one that was killed
            redactor.take(msgspec.json.decode(bytes(received), type=dict[str, tuple[str, str]]))


def _gap(run: RunDir) -> str:
    """Say since when nothing was recorded, if the last recorder of ``run`` ended without having been drained."""
    notes = [note for note in files.read_lines(run.logs / "recorder.jsonl") if isinstance(note, dict)]
    ends = [note for note in notes if note.get("event") in ("recorder.started", "recorder.ended")]
    if not ends or ends[-1].get("why") == "drained":
        return ""
    last = ends[-1]
    if last["event"] == "recorder.ended":
        return f"the recorder ended at {last.get('time')} ({last.get('why')}): what happened since is not recorded"
    seen = _last_seen(run.history)
    return f"the recorder died after {max(seen, str(last.get('time')))}: what happened since is not recorded"


def _last_seen(history: Path) -> str:
    """Return when the last line of ``history`` was written, empty if that is not known."""
    if not history.exists():
        return ""
    seen = ""
    for line in history.read_bytes().splitlines():
        with suppress(msgspec.DecodeError):
            seen = msgspec.json.decode(line, type=_Seen).seen
    return seen


class _Seen(msgspec.Struct):
    seen: str


def _end(
    run: RunDir, settings: Settings, signum: int, timeout_s: float, meanwhile: Callable[[], None] = lambda: None
) -> bool:
    state = place(run, settings)
    if _wait_gone(state, 0.0) is not False:
        return False
    deadline = time.monotonic() + timeout_s
    while (pid := _pid(state)) is None:  # it is being started at this very moment
        if _wait_gone(state, 0.02) is not False:
            return True
        if time.monotonic() >= deadline:
            break
    _kill(pid, signum)
    if _wait_gone(state, max(0.0, deadline - time.monotonic()), meanwhile) is not False:
        return True
    _kill(_pid(state) or pid, signal.SIGKILL)
    _wait_gone(state, 2.0)
    message = f"the recorder (pid {pid or 'unknown'}) did not end within {timeout_s:g} s and was killed"
    raise RecorderFailed(message, hint="what it had seen is on disk; see logs/recorder.jsonl")


def _wait_gone(state: Path, timeout_s: float, meanwhile: Callable[[], None] = lambda: None) -> bool | None:
    """Wait until nobody holds the lock: True; still held: False; there never was one: None."""
    try:
        lock = os.open(state / "alive", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                meanwhile()
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)
            else:
                return True
    finally:
        os.close(lock)


def _pid(state: Path) -> int | None:
    """Return the recorder's pid; None before it has written it, and after `stop` has removed it."""
    try:
        return int((state / "pid").read_text())
    except FileNotFoundError:
        return None


def _holder(state: Path) -> int:
    pid = _pid(state)
    if pid is None:
        message = "the recorder was stopped while it started"
        raise RecorderFailed(message)
    return pid


def _kill(pid: int | None, signum: int) -> None:
    with suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, signum)
