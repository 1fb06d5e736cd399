"""Stage collect: everything observed is gathered, then sealed by `manifest.json`."""

import time
from collections.abc import Callable

from k8s_e2e.base import journal
from k8s_e2e.base.errors import KitError
from k8s_e2e.evidence import collector, manifest, recorder
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Manifest, Part
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import CollectParameters
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings, load_settings
from k8s_e2e.platform import namespace
from k8s_e2e.stages import session
from k8s_e2e.stages.outcome import recorded
from k8s_e2e.stages.table import Table
from k8s_e2e.traces import gate


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
    return Table(["part", "status", "seconds", "rows", "error"], rows, title="Collected")


def complete_seal(run: RunDir, settings: Settings) -> Manifest | None:
    """Return the seal of a run of which nothing is left to collect; None where something is.

    What a cluster shows after a run is not the run's any more, and its Jaeger may have forgotten: collecting again
    could only lose. There is something left where a part failed, and where deploy or test ran again since.

    Raises:
        UsageError: `run.json` or the seal cannot be read.
    """
    if not run.manifest.exists() or recorder.alive(run, settings):
        return None
    sealed, record = io.load(run.manifest, Manifest), io.load(run.run_json, RunRecord)
    since = [stage for name in ("deploy", "test") if (stage := record.stage(name)) and stage.started > sealed.sealed]
    return None if since or any(part.status == "failed" for part in sealed.parts) else sealed


def _collect(run: RunDir, profile: Profile, settings: Settings) -> Manifest:
    if sealed := complete_seal(run, settings):
        journal.progress(f"everything was collected by {sealed.sealed} and stays as it is")
        return sealed
    began = time.monotonic()
    try:
        cluster = session.attach(run, settings)
    except KitError as error:
        if run.manifest.exists():  # collected before; the cluster is gone, what was sealed is not
            journal.progress(f"what was collected stays as it is: {error.message}")
            return io.load(run.manifest, Manifest)
        journal.progress(f"nothing to collect from: {error.message}")
        lost = Part(name="cluster", status="failed", duration_s=time.monotonic() - began, error=str(error))
        drained = _part("recorder", lambda: int(recorder.drain(run, settings)))
        return manifest.seal(run, [lost, drained], io.load(run.run_json, RunRecord).run_id)
    run_id = io.load(run.run_json, RunRecord).run_id
    with session.opened(run, cluster, profile, settings) as opened:
        if not namespace.belongs_to(opened.kube, profile.namespace, run_id):
            why = f"namespace {profile.namespace} was never made for this run; what is in it is not this run's"
            if run.manifest.exists():  # collected before another run deployed there
                journal.progress(f"what was collected stays as it is: {why}")
                return io.load(run.manifest, Manifest)
            lost = Part(name="namespace", status="skipped", duration_s=time.monotonic() - began, error=why)
            drained = _part("recorder", lambda: int(recorder.drain(run, settings)))
            return manifest.seal(run, [lost, drained], run_id)
        census = []
        if profile.traces is None:
            journal.progress("no traces: the profile has no [traces]")
        else:  # spans arrive late, so they are asked for first: a namespace without its Jaeger cannot be asked again
            census.append(
                _part(
                    "traces", lambda: len(gate.export(run, opened.requester, profile, settings, journal.progress).data)
                )
            )
        collected = collector.collect(
            run, cluster, profile.namespace, profile, opened.requester, settings, journal.progress
        )
    # The collector has drained the recorder, and so ended it: what is sealed is written no more.
    return manifest.seal(run, [*census, *collected.parts], run_id)


def _part(name: str, work: Callable[[], int | None]) -> Part:
    began = time.monotonic()
    try:
        rows = work()
    except KitError as error:
        return Part(name=name, status="failed", duration_s=time.monotonic() - began, error=str(error))
    return Part(name=name, status="ok", duration_s=time.monotonic() - began, rows=rows)
