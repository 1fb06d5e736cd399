"""Stage collect: everything observed is gathered, then sealed by `manifest.json`."""

import contextlib
import time

from k8s_e2e.base import files, journal
from k8s_e2e.base.errors import KitError
from k8s_e2e.base.files import DiskFull
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.evidence import collector, manifest, recorder, secrets
from k8s_e2e.evidence.history import last_states
from k8s_e2e.evidence.parts import Parts
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Manifest
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import CollectParameters
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings, load_settings
from k8s_e2e.platform import namespace
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.running_images import running_images
from k8s_e2e.stages import session
from k8s_e2e.stages.outcome import recorded
from k8s_e2e.stages.table import Table
from k8s_e2e.traces import gate

ANSWER_TIMEOUT_S = 20.0  # an API server that restarts is back by then
_REFUSALS = range(400, 500)


def collect(parameters: CollectParameters) -> Table:
    """Collect and seal; what could not be collected is a failed part of the manifest, not an error of the stage.

    Raises:
        UsageError: not a run directory, or the profile is wrong.
    """
    run, settings = RunDir.existing(parameters.run_dir), load_settings()
    with recorded(run, "collect"):
        profile = load_profile(parameters.profile)
        sealed = _collect(run, profile, settings)
    rows = [[part.name, part.status, part.duration_s, part.rows, part.error] for part in sealed.parts]
    left_out = [f"[{name}]" for name in profile.unconfigured]
    title = f"Collected; the profile has no {' and no '.join(left_out)}" if left_out else "Collected"
    return Table(["part", "status", "seconds", "rows", "error"], rows, title=title)


def complete_seal(run: RunDir, settings: Settings) -> Manifest | None:
    """Return the seal of a run of which nothing is left to collect; None where something is.

    What a cluster shows after a run is not the run's any more, and its Jaeger may have forgotten: collecting again
    could only lose. There is something left where a part failed (but for the recorder's: what it missed is over), and
    where deploy or test ran again since.

    Raises:
        UsageError: `run.json` or the seal cannot be read.
    """
    sealed = _last_seal(run, settings)
    again = sealed and any(part.status == "failed" and part.name != "recorder" for part in sealed.parts)
    return None if again else sealed


def _last_seal(run: RunDir, settings: Settings) -> Manifest | None:
    """Return the seal of a run to which nothing was added since."""
    if not run.manifest.exists() or recorder.alive(run, settings):
        return None
    sealed, record = io.load(run.manifest, Manifest), io.load(run.run_json, RunRecord)
    since = [stage for name in ("deploy", "test") if (stage := record.stage(name)) and stage.started > sealed.sealed]
    return None if since else sealed


def _collect(run: RunDir, profile: Profile, settings: Settings) -> Manifest:
    if sealed := complete_seal(run, settings):
        journal.progress(f"everything was collected by {sealed.sealed} and stays as it is")
        return sealed
    began = time.monotonic()
    try:
        cluster = session.attach(run, settings)
    except KitError as error:
        return _without(run, settings, "cluster", began, error)
    run_id = io.load(run.run_json, RunRecord).run_id
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(session.opened(run, cluster, profile, settings))
            ours = _belongs(opened.kube, profile.namespace, run_id)
        except DiskFull:
            raise
        except (KitError, OSError) as error:
            return _without(run, settings, "namespace", began, error)
        if not ours:
            why = f"namespace {profile.namespace} was never made for this run; what is in it is not this run's"
            return _without(run, settings, "namespace", began, why)
        parts = Parts()
        cleaner = secrets.taught(opened.kube, profile.namespace, recorder.place(run, settings))
        journal.redact(cleaner.redactor)
        if profile.traces is None:
            journal.progress("no traces: the profile has no [traces]")
        else:  # spans arrive late, so they are asked for first: a namespace without its Jaeger cannot be asked again
            progress = journal.progress
            parts.do(
                "traces", lambda: len(gate.export(run, opened.requester, profile, settings, progress, cleaner).data)
            )
        collected = collector.collect(
            run, cluster, profile.namespace, profile, opened.requester, settings, journal.progress
        )
    if cluster.shared:
        _note_images(run)
    # The collector has drained the recorder, and so ended it: what is sealed is written no more.
    return manifest.seal(run, [*parts.all(), *collected.parts], run_id)


def _note_images(run: RunDir) -> None:
    """Write into `run.json` what the pods of the whole run said they ran: where images are pulled nobody else knows."""
    found = running_images(last.object for last in last_states(run.history, "v1", "Pod").values() if last.object)
    record = io.load(run.run_json, RunRecord)
    if found:
        record.images = found
        files.write_json(run.run_json, record)


def _belongs(kube: Kube, name: str, run_id: str) -> bool:
    """Say whether namespace ``name`` is the run's; an API server that does not answer just now is asked again.

    Raises:
        ApiError: it refused.
        WaitTimeout: it did not answer for `ANSWER_TIMEOUT_S`.
    """

    def probe() -> bool | Pending:
        try:
            return namespace.belongs_to(kube, name, run_id)
        except ApiError as error:
            if error.status in _REFUSALS:
                raise
            return Pending(str(error))

    return wait_for(
        f"the API server to show namespace {name}",
        probe,
        timeout_s=ANSWER_TIMEOUT_S,
        interval_s=0.5,
        on_state=journal.progress,
    )


def _without(run: RunDir, settings: Settings, what: str, began: float, why: Exception | str) -> Manifest:
    """Seal what there is, as ``what`` cannot be collected from; a seal of all that there is already stays."""
    told = why.message if isinstance(why, KitError) else str(why)
    if sealed := _last_seal(run, settings):
        journal.progress(f"what was collected stays as it is: {told}")
        return sealed
    journal.progress(f"nothing to collect from: {told}")
    parts = Parts()
    parts.add(what, "skipped" if isinstance(why, str) else "failed", began, error=str(why))
    collector.without_cluster(run, settings, parts)
    return manifest.seal(run, parts.all(), io.load(run.run_json, RunRecord).run_id)
