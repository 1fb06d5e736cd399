"""The order of the stages, and "always": what runs whatever happened before it."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from k8s_e2e import notebooks, report
from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import EnvironmentFailure, Interrupted, KitError, UsageError
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster.provider import EXISTING
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.evidence import recorder
from k8s_e2e.model import io
from k8s_e2e.model.layout import STAGES, RunDir
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import Settings
from k8s_e2e.notebooks.following import followed
from k8s_e2e.notebooks.runner import STOPS
from k8s_e2e.platform import image_prefix, manifests
from k8s_e2e.scenarios import loader
from k8s_e2e.stages import session, shared_cluster
from k8s_e2e.stages.deploy import refuse_prefix
from k8s_e2e.stages.outcome import begin


class Request(NamedTuple):
    """What to run. ``cluster`` names one that exists and stays; without it one is made and removed.

    With provider ``existing`` it is a context of the kubeconfig, and what the run made in it is removed.
    """

    run_dir: Path
    profile: Path
    provider: str = "auto"
    cluster: str = ""
    scenarios: tuple[str, ...] = ()
    keep: bool = False
    keep_on_failure: bool = False
    first: str = "deploy"
    image_prefix: str = ""
    program: str = ""  # how the kit was called, and the profile was named, for the commands that reports recommend
    profile_named: str = ""


def run(request: Request, settings: Settings, progress: Progress) -> RunRecord:
    """Run the stages from ``request.first`` on and return what became of them.

    The first failing stage decides the exit code; collect, trace-analysis and report run whatever failed before.

    Raises:
        UsageError: something in the request is wrong; nothing was started.
        Interrupted: a signal; everything is saved, the cluster is gone unless it was to be kept.
        DiskFull: the run directory cannot be written; the cluster is gone unless it was to be kept.
    """
    run_dir = _prepare(request, settings)
    left = 0
    with _signals_raise():
        try:
            for name in STAGES[STAGES.index(request.first) :]:
                record = io.load(run_dir.run_json, RunRecord)
                if name == "test" and not _passed(record, "deploy"):
                    _skip(run_dir, name, "the platform is not there")
                    continue
                _stage(name, run_dir, request, settings, progress)
                if name == "collect":
                    _end_recording(run_dir, request, settings, progress)
                    left = _leave(run_dir, request, settings, progress)
        except BaseException as error:
            with _signals_wait():
                _stop(run_dir, request, settings, progress, error)
            raise
    return _finish(run_dir, request, left)


def _prepare(request: Request, settings: Settings) -> RunDir:
    if request.first not in STAGES:
        message = f"--from {request.first}: no such stage"
        raise UsageError(message, hint=f"stages: {', '.join(STAGES)}")
    profile = load_profile(request.profile)
    if request.first != "deploy":
        return _continued(request, profile)
    loader.load(list(request.scenarios or profile.scenarios), profile)  # a bad scenario is told before anything starts
    manifests.overlay_dir(profile)  # and so is an overlay that is not there
    provider = get_provider(request.provider, settings)
    refuse_prefix(provider, image_prefix.checked(request.image_prefix))
    if request.cluster or provider.name == EXISTING:
        provider.attach(request.cluster)  # and so is a cluster that is not there
    run_dir = RunDir.claim(request.run_dir)
    if run_dir.run_json.exists():
        message = f"--run-dir {request.run_dir} holds a run already"
        raise UsageError(message, hint="name a new directory, or continue it with --from STAGE")
    begin(run_dir, profile, {**request._asdict(), "run_dir": str(request.run_dir), "profile": str(request.profile)})
    return run_dir


def _continued(request: Request, profile: Profile) -> RunDir:
    run_dir = RunDir.existing(request.run_dir)
    record = io.load(run_dir.run_json, RunRecord)
    if request.first == "test":
        loader.load(list(_scenarios(request, record) or profile.scenarios), profile)
    if request.first == "test" and not _passed(record, "deploy"):
        message = f"the run in {request.run_dir} has no deployed platform to go on with"
        raise UsageError(message, hint="begin a new run")
    if request.cluster and request.cluster != record.cluster:
        message = f"--cluster {request.cluster}: the run in {request.run_dir} is on cluster {record.cluster!r}"
        raise UsageError(message, hint="leave --cluster out, or begin a new run")
    if request.first == "test":
        record.attempt += 1
        files.write_json(run_dir.run_json, record)
    return run_dir


def _scenarios(request: Request, record: RunRecord) -> Sequence[str]:
    """Return the scenarios asked for now, else those that the run was begun with; none = the profile's own."""
    return request.scenarios or record.parameters.get("scenarios") or ()


def _stage(name: str, run_dir: RunDir, request: Request, settings: Settings, progress: Progress) -> StageOutcome:
    values: dict[str, Any] = {"profile": str(request.profile)}
    if name == "deploy":
        cluster = request.cluster
        if not cluster and request.provider != EXISTING:
            cluster = own_cluster(io.load(run_dir.run_json, RunRecord))
        values |= {"provider": request.provider, "cluster": cluster, "reuse": bool(request.cluster)}
        values |= {"image_prefix": request.image_prefix}
    if name == "test":
        values["scenarios"] = list(_scenarios(request, io.load(run_dir.run_json, RunRecord)))
    progress(f"stage {name}")
    with followed(run_dir.kit_log, progress):
        outcome = notebooks.run(name, values, run_dir.root, settings=settings).outcome
    told = (f": {outcome.error}" if outcome.error else "") + (f"\n{outcome.hint}" if outcome.hint else "")
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


def own_cluster(record: RunRecord) -> str:
    """Return the name of the cluster that a run makes for itself."""
    return f"run-{record.run_id}"


def left(record: RunRecord) -> list[str]:
    """Return the words after `down` that remove what a run may have left; none if the cluster was somebody's before.

    Of an existing cluster only what the run made in it goes.
    """
    if not record.cluster or (record.provider != EXISTING and record.cluster != own_cluster(record)):
        return []
    profile = str(record.parameters.get("profile_named") or "")
    return [record.cluster, "--provider", record.provider, *(["--profile", profile] if profile else [])]


def _kept(record: RunRecord, request: Request, *, failed: bool) -> bool:
    """Say whether the cluster stays: it was somebody's before the run, or this call or the run's first one asked.

    Of an existing cluster it is only asked whether what the run made in it stays.
    """
    asked = [record.parameters, request._asdict()]
    named = record.cluster not in ("", own_cluster(record)) or any(one.get("cluster") for one in asked)
    return (
        (named and EXISTING not in (record.provider, request.provider))
        or any(one.get("keep") for one in asked)
        or (failed and any(one.get("keep_on_failure") for one in asked))
    )


def _stays(record: RunRecord, request: Request) -> bool:
    """Say whether there is a cluster, and it stays as the run has gone so far."""
    return bool(record.cluster) and _kept(record, request, failed=exit_code(record) != 0)


def _end_recording(run_dir: RunDir, request: Request, settings: Settings, progress: Progress) -> None:
    """See to it that nothing is recorded any more, whatever became of stage collect."""
    record = io.load(run_dir.run_json, RunRecord)
    try:
        recorder.stop(run_dir, settings, forget=not _stays(record, request))
    except (KitError, OSError) as error:
        progress(f"the recorder: {error}")


def _leave(run_dir: RunDir, request: Request, settings: Settings, progress: Progress) -> int:
    """Remove the cluster, or say how to; return the exit code that this alone would give."""
    record = io.load(run_dir.run_json, RunRecord)
    if EXISTING in (record.provider, request.provider):
        return _leave_existing(run_dir, record, request, settings, progress)
    if _kept(record, request, failed=exit_code(record) != 0):
        if record.cluster:
            how = f"`k8s-e2e down {record.cluster} --provider {record.provider}`"
            progress(f"cluster {record.cluster} stays; {how} removes it")
        return 0
    try:
        # A stop in mid-`up` leaves a cluster that run.json does not name.
        provider = get_provider(record.provider or request.provider, settings)
        provider.down(record.cluster or own_cluster(record), progress=progress)
    except KitError as error:
        progress(f"the cluster could not be removed: {error}")
        return error.exit_code
    return 0


def _leave_existing(
    run_dir: RunDir, record: RunRecord, request: Request, settings: Settings, progress: Progress
) -> int:
    """Remove from an existing cluster what the run made in it, and only that."""
    if not record.cluster:  # stopped before anything was applied
        return 0
    if _kept(record, request, failed=exit_code(record) != 0):
        how = record.command("down", record.cluster, "--provider", EXISTING)
        progress(f"what the run made in cluster {record.cluster} stays; `{how}` removes it")
        return 0
    try:
        cluster = session.attach(run_dir, settings)
        left = shared_cluster.clear(cluster, load_profile(request.profile), record.run_id, progress)
        get_provider(EXISTING, settings).down(record.cluster, progress=progress)
    except KitError as error:
        progress(f"what the run made in cluster {record.cluster} could not be removed: {error}")
        return error.exit_code
    for line in left:
        progress(f"left in cluster {record.cluster}: {line}")
    return EnvironmentFailure.exit_code if left else 0


def _stop(run_dir: RunDir, request: Request, settings: Settings, progress: Progress, why: BaseException) -> None:
    """Save what there is, then tidy up: each part is tried, whatever became of the one before."""
    told = (OSError, KitError, msgspec.MsgspecError)
    with contextlib.suppress(*told):
        _finish(run_dir, request, stopped=why.exit_code if isinstance(why, (KitError, Interrupted)) else 1)
    with contextlib.suppress(*told):
        record = io.load(run_dir.run_json, RunRecord)
        report.minimal(run_dir, str(why), stays=_stays(record, request))
        progress(f"what there is: {run_dir.report}")
    with contextlib.suppress(*told):
        _end_recording(run_dir, request, settings, progress)
    try:
        _leave(run_dir, request, settings, progress)
    except (*told, subprocess.SubprocessError) as error:
        progress(f"the cluster could not be removed: {error}; `k8s-e2e doctor` lists what is left")


def exit_code(record: RunRecord) -> int:
    """Return the exit code of the first failing stage, 0 when none failed."""
    return next((stage.exit_code for stage in record.stages if stage.status in ("failed", "interrupted")), 0)


def _finish(run_dir: RunDir, request: Request, left: int = 0, *, stopped: int = 0) -> RunRecord:
    """Write the end into `run.json`: a stop's own code, else the first failing stage's, else what was left behind."""
    record = io.load(run_dir.run_json, RunRecord)
    record.finished = clock.now()
    record.exit_code = stopped or exit_code(record) or left
    files.write_json(run_dir.run_json, record)
    if not stopped and not _passed(record, "report"):
        report.minimal(run_dir, "the report stage failed", stays=_stays(record, request))
    return record


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    def stop(signum: int, _: FrameType | None) -> None:
        raise Interrupted(signum)

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let nothing cut the tidying short: it is bounded by its own deadlines."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
