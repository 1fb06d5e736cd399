"""Stage test: the scenarios against the running platform."""

from k8s_e2e.base import journal
from k8s_e2e.base.errors import EnvironmentFailure, ExpectationError
from k8s_e2e.cluster import system_packages
from k8s_e2e.evidence import recorder, secrets
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import TestParameters
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings, load_settings
from k8s_e2e.platform import namespace
from k8s_e2e.scenarios import engine, loader
from k8s_e2e.scenarios.browser import find_browser
from k8s_e2e.stages import session
from k8s_e2e.stages.outcome import recorded
from k8s_e2e.stages.table import Table


def test(parameters: TestParameters) -> Table:
    """Run the scenarios and return a table of their steps.

    Raises:
        UsageError: a scenario is absent or wrong; nothing was run.
        ExpectationError: a step failed; all results are in `k8s-e2e-results.json`.
    """
    run, settings = RunDir.existing(parameters.run_dir), load_settings()
    with recorded(run, "test"):
        profile = load_profile(parameters.profile)
        scenarios = loader.load(list(parameters.scenarios or profile.scenarios), profile)
        _browser(scenarios, settings)
        cluster = session.attach(run, settings)
        record = io.load(run.run_json, RunRecord)
        run_id = record.run_id
        with session.opened(run, cluster, profile, settings) as opened:
            if not namespace.belongs_to(opened.kube, profile.namespace, run_id):
                message = f"namespace {profile.namespace} of cluster {cluster.name} was not made for run {run_id}"
                raise EnvironmentFailure(message, hint="another run has deployed there since; begin a new run")
            recorder.start(run, cluster, profile.namespace, profile, settings)  # it ended when the run was sealed
            cleaner = secrets.taught(opened.kube, profile.namespace, recorder.place(run, settings))
            journal.redact(cleaner.redactor)
            context = engine.Context(
                kube=opened.kube,
                requester=opened.requester,
                forwards=opened.forwards,
                kubectl=cluster.kubectl,
                cluster=cluster,
                namespace=profile.namespace,
                profile=profile,
                run=run,
                run_id=run_id,
                settings=settings,
                cleaner=cleaner,
                image_prefix=record.image_prefix,
            )
            results = engine.run(scenarios, context, journal.progress)
        _judge(results)
    return table(results)


test.__test__ = False  # type: ignore[attr-defined] # a stage, not a test of ours


def _browser(scenarios: list[loader.Scenario], settings: Settings) -> None:
    """Install Chromium if a screenshot is asked for; where that may not be, the step says why it is skipped."""
    kinds = {planned.kind for scenario in scenarios for planned in (*scenario.steps, *scenario.cleanup)}
    if "screenshot" not in kinds or find_browser() is not None:
        return
    try:
        system_packages.ensure({"chromium": "chromium"}, settings, journal.progress)
    except EnvironmentFailure as error:
        journal.progress(f"no screenshots: {error}")


def _judge(results: Results) -> None:
    failure = results.first_failure()
    if failure is None:
        return
    _, step = failure
    message = f"{results.failed} of {results.total} steps failed; first {step.id} ({step.name}): {step.message}"
    raise ExpectationError(message)


def table(results: Results) -> Table:
    """Return one row a step: id, name, kind, status, seconds, message."""
    rows = [
        [step.id, step.name, step.kind, step.status, step.duration_s, step.message]
        for scenario in results.scenarios
        for step in [*scenario.steps, *scenario.cleanup]
    ]
    return Table(["step", "name", "kind", "status", "seconds", "message"], rows, title="Steps")
