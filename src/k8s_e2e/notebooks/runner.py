"""Running one stage as a notebook, from parameters to outcome.

papermill works in a thread; the main thread waits for it, listens for signals and keeps the wall-clock watchdog.
A stop is an interrupt to the kernel first (so that the stage saves what it has), its end a few seconds later.
"""

import contextlib
import errno
import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import nbformat

from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import exit_code_of
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import parameters_of
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import Settings, load_settings
from k8s_e2e.notebooks import export, source
from k8s_e2e.stages.outcome import record

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a lost terminal is a stop, too
GRACE_S = 3.0  # from the interrupt to the kernel's end: a scenario's cleanup fits into this, the whole stop into 5 s


_logger = logging.getLogger(__name__)


class StageResult(NamedTuple):
    """How a stage ended, and the executed notebook."""

    outcome: StageOutcome
    notebook: Path


class _Stop:
    """Why the stage is being stopped, and since when."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.watchdog = False
        self.since: float | None = None

    def ask(self, signum: int | None = None) -> None:
        if self.since is None:
            self.signum, self.watchdog, self.since = signum, signum is None, time.monotonic()


def run(name: str, params: dict[str, Any], run_dir: Path, *, settings: Settings | None = None) -> StageResult:
    """Run stage ``name`` with ``params`` in a fresh kernel; its notebook goes to ``run_dir/notebooks``.

    A stage that fails does not raise: its outcome says so, and is in `run.json`. A signal that comes once the stage
    has ended is passed on to whoever listened before, when all is written.

    Raises:
        UsageError: unknown stage or parameter, or a run directory that is not ours.
    """
    from k8s_e2e.notebooks.engine import Kernel  # noqa: PLC0415 - papermill costs 0.5 s, only runs need it

    settings = settings or load_settings()
    checked = parameters_of(name, {**params, "run_dir": str(run_dir)})
    directory = RunDir.claim(run_dir) if name == "deploy" else RunDir.existing(run_dir)
    if not directory.run_json.exists():
        files.write_json(directory.run_json, RunRecord())  # from here on it is a run directory of ours
    directory.notebooks.mkdir(parents=True, exist_ok=True)
    target = directory.notebooks / f"{name}.ipynb"
    document = source.load(name)
    started, begin = clock.now(), time.monotonic()
    kernel, stop = Kernel(Path.cwd()), _Stop()
    failure: list[BaseException] = []
    worker = threading.Thread(
        target=_execute, args=(document, target, checked.model_dump(mode="json"), kernel, failure), daemon=True
    )
    with _listening(stop):
        worker.start()
        _attend(worker, kernel, stop, limit_s=settings.stage_timeout_s)
    late = _Stop()
    with _listening(late):
        outcome = _outcome(name, directory, started, stop, failure, target)
        outcome.duration_s = round(time.monotonic() - begin, 6)
        record(directory, outcome)
        try:
            export.export(target, outcome)
        except Exception:
            _logger.exception("the notebook of stage %s could not be exported", name)
        outcome.duration_s = round(time.monotonic() - begin, 6)  # the export is part of the price
        record(directory, outcome)
    if late.signum is not None and outcome.status != "interrupted":
        signal.raise_signal(late.signum)  # too late to stop this stage, and no reason to go on with the next
    return StageResult(outcome, target)


def _execute(
    document: nbformat.NotebookNode, target: Path, values: dict[str, Any], kernel: Any, failure: list[BaseException]
) -> None:
    import papermill  # noqa: PLC0415 - see run()
    from jupyter_core.utils import ensure_event_loop  # noqa: PLC0415

    from k8s_e2e.notebooks import engine  # noqa: PLC0415

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                document,
                str(target),
                parameters=values,
                engine_name=engine.NAME,
                kernel_name="python3",
                progress_bar=False,
                autosave_cell_every=5,
                kernel=kernel,
            )
    except BaseException as error:  # noqa: BLE001 - whatever it was, the outcome names it
        failure.append(error)
    finally:
        ensure_event_loop().close()  # the client opened one for this thread and leaves it open


@contextlib.contextmanager
def _listening(stop: _Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def asked(signum: int, _: FrameType | None) -> None:
        stop.ask(signum)

    before = {number: signal.signal(number, asked) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _attend(worker: threading.Thread, kernel: Any, stop: _Stop, *, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    interrupted = killed = False
    while worker.is_alive():
        worker.join(0.05)
        if time.monotonic() > deadline:
            stop.ask()
        if stop.since is None:
            continue
        if not interrupted:
            interrupted = kernel.signal(signal.SIGINT)
        elif not killed and time.monotonic() > stop.since + GRACE_S:
            killed = kernel.signal(signal.SIGKILL)


def _outcome(
    name: str,
    directory: RunDir,
    started: str,
    stop: _Stop,
    failure: list[BaseException],
    target: Path,
) -> StageOutcome:
    told = io.load_or(directory.run_json, RunRecord).stage(name)
    if told is None or told.started < started:
        told = None  # left by an earlier attempt, not by this kernel

    def ended(status: Any, code: int, error: str) -> StageOutcome:
        return StageOutcome(name=name, status=status, started=started, duration_s=0.0, exit_code=code, error=error)

    if stop.signum is not None:
        word = signal.Signals(stop.signum).name
        return ended("interrupted", 128 + stop.signum, f"stopped by {word}")
    if stop.watchdog:
        return ended("failed", 4, f"stage {name} ran longer than its limit and was stopped")
    if told is not None:
        told.started = started  # as the duration: with the kernel's start and the export around the stage's own work
    if told is not None and told.status != "passed":
        return told
    if failure:
        return ended("failed", *_told(failure[0]))
    if told is None or _pending(target):
        return ended("failed", 1, "the notebook ended before all of its cells had run")
    return told


def _told(error: BaseException) -> tuple[int, str]:
    """Return exit code and message of what ended a notebook whose stage did not say so itself."""
    from nbclient.exceptions import DeadKernelError  # noqa: PLC0415 - see run()

    line = " ".join(str(getattr(error, "evalue", error)).split())[:500]
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return files.DiskFull.exit_code, f"no space left while writing {error.filename or 'the notebook'}"
    if isinstance(error, DeadKernelError) or "Kernel died" in line:
        return 5, line
    known = exit_code_of(getattr(error, "ename", ""))
    return (1, f"{getattr(error, 'ename', type(error).__name__)}: {line}") if known is None else (known, line)


def _pending(target: Path) -> bool:
    """Say whether a code cell never ran; a notebook that cannot be read has not run as a whole."""
    try:
        document = nbformat.read(str(target), as_version=4)
    except (OSError, ValueError):
        return True
    return any(
        cell.cell_type == "code"
        and cell.source.strip()
        and cell.metadata.get("papermill", {}).get("status") == "pending"
        for cell in document.cells
    )
