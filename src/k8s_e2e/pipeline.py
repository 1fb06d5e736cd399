"""The order of the stages, and "always": what runs whatever happened before it."""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from k8s_e2e import notebooks, report
from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import Interrupted, KitError, UsageError
from k8s_e2e.base.journal import PROGRESS
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.evidence import recorder
from k8s_e2e.model import io
from k8s_e2e.model.layout import STAGES, RunDir
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import Settings
from k8s_e2e.scenarios import loader
from k8s_e2e.stages.outcome import begin


class Request(NamedTuple):
    """What to run. ``cluster`` names one that exists and stays; without it one is made and removed."""

    run_dir: Path
    profile: Path
    provider: str = "auto"
    cluster: str = ""
    scenarios: tuple[str, ...] = ()
    keep: bool = False
    keep_on_failure: bool = False
    first: str = "deploy"


def run(request: Request, settings: Settings, progress: Progress) -> RunRecord:
    """Run the stages from ``request.first`` on and return what became of them.

    The first failing stage decides the exit code; collect, trace-analysis and report run whatever failed before.

    Raises:
        UsageError: something in the request is wrong; nothing was started.
        Interrupted: a signal; everything is saved, the cluster is gone unless it was to be kept.
        DiskFull: the run directory cannot be written; the cluster is gone unless it was to be kept.
    """
    run_dir = _prepare(request)
    with _signals_raise():
        try:
            for name in STAGES[STAGES.index(request.first) :]:
                record = io.load(run_dir.run_json, RunRecord)
                if name == "test" and not _passed(record, "deploy"):
                    _skip(run_dir, name, "the platform is not there")
                    continue
                _stage(name, run_dir, request, settings, progress)
                if name == "collect" and not _kept(request, run_dir):
                    _down(run_dir, request, settings, progress)
        except BaseException as error:
            with _signals_wait():
                _stop(run_dir, request, settings, progress, error)
            raise
    return _finish(run_dir)


def _prepare(request: Request) -> RunDir:
    if request.first not in STAGES:
        message = f"--from {request.first}: no such stage"
        raise UsageError(message, hint=f"stages: {', '.join(STAGES)}")
    profile = load_profile(request.profile)
    loader.load(list(request.scenarios or profile.scenarios), profile)  # a bad scenario is told before anything starts
    run_dir = RunDir.claim(request.run_dir)
    if request.first != "deploy":
        io.load(run_dir.run_json, RunRecord)
        return run_dir
    if run_dir.run_json.exists():
        message = f"--run-dir {request.run_dir} holds a run already"
        raise UsageError(message, hint="name a new directory, or continue it with --from STAGE")
    begin(run_dir, profile, {**request._asdict(), "run_dir": str(request.run_dir), "profile": str(request.profile)})
    return run_dir


def _stage(name: str, run_dir: RunDir, request: Request, settings: Settings, progress: Progress) -> StageOutcome:
    values: dict[str, Any] = {"profile": str(request.profile)}
    if name == "deploy":
        cluster = request.cluster or f"run-{io.load(run_dir.run_json, RunRecord).run_id}"
        values |= {"provider": request.provider, "cluster": cluster, "reuse": bool(request.cluster)}
    if name == "test":
        values["scenarios"] = list(request.scenarios)
    progress(f"stage {name}")
    with _followed(run_dir.kit_log, progress):
        outcome = notebooks.run(name, values, run_dir.root, settings=settings).outcome
    told = f": {outcome.error}" if outcome.error else ""
    progress(f"stage {name} {outcome.status} in {outcome.duration_s:.1f} s{told}")
    if outcome.status == "interrupted":
        raise Interrupted(outcome.exit_code - 128)
    return outcome


def _passed(record: RunRecord, name: str) -> bool:
    stage = record.stage(name)
    return stage is not None and stage.status == "passed"


def _skip(run_dir: RunDir, name: str, why: str) -> None:
    record = io.load(run_dir.run_json, RunRecord)
    record.put(StageOutcome(name=name, status="skipped", started=clock.now(), duration_s=0.0, error=why))
    files.write_json(run_dir.run_json, record)


def _kept(request: Request, run_dir: RunDir) -> bool:
    failed = exit_code(io.load(run_dir.run_json, RunRecord)) != 0
    return bool(request.cluster) or request.keep or (request.keep_on_failure and failed)


def _down(run_dir: RunDir, request: Request, settings: Settings, progress: Progress) -> None:
    recorder.stop(run_dir, settings)
    record = io.load(run_dir.run_json, RunRecord)
    name = record.cluster or f"run-{record.run_id}"  # a stop in mid-`up` leaves a cluster that run.json does not name
    provider = get_provider(record.provider or request.provider, settings)
    provider.down(name, progress=progress)


def _stop(run_dir: RunDir, request: Request, settings: Settings, progress: Progress, why: BaseException) -> None:
    if not (request.cluster or request.keep or request.keep_on_failure):
        with contextlib.suppress(KitError):
            _down(run_dir, request, settings, progress)
    else:
        recorder.stop(run_dir, settings)
    with contextlib.suppress(OSError, KitError):
        _finish(run_dir, why.exit_code if isinstance(why, KitError) else 1)
        report.minimal(run_dir, str(why))


def exit_code(record: RunRecord) -> int:
    """Return the exit code of the first failing stage, 0 when none failed."""
    return next((stage.exit_code for stage in record.stages if stage.status in ("failed", "interrupted")), 0)


def _finish(run_dir: RunDir, code: int | None = None) -> RunRecord:
    record = io.load(run_dir.run_json, RunRecord)
    record.finished = clock.now()
    record.exit_code = exit_code(record) or code or 0
    files.write_json(run_dir.run_json, record)
    if not _passed(record, "report") and code is None:
        report.minimal(run_dir, "the report stage failed")
    return record


@contextlib.contextmanager
def _followed(log: Path, progress: Progress) -> Iterator[None]:
    """Pass the progress lines that the kernel writes into the log on to ``progress``."""
    done = threading.Event()
    offset = log.stat().st_size if log.exists() else 0

    def follow() -> None:
        position, rest = offset, b""
        while True:
            last = done.is_set()
            if log.exists():
                with log.open("rb") as stream:
                    stream.seek(position)
                    rest += stream.read()
                    position = stream.tell()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                entry = json.loads(line)
                if entry.get("logger") == PROGRESS:
                    progress("  " + entry["msg"])
            if last:
                return
            time.sleep(0.1)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(2)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    def stop(signum: int, _: FrameType | None) -> None:
        raise Interrupted(signum)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let nothing cut the tidying short: it is bounded by its own deadlines."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
