"""How a run ended, read from `run.json` and the results alone: never guessed, and quick enough for a signal handler."""

import re
from dataclasses import dataclass
from typing import Literal

from k8s_e2e.base.text import one_line
from k8s_e2e.model.results import Results, ScenarioResult, StepResult
from k8s_e2e.model.run import RunRecord, StageOutcome

Word = Literal["passed", "failed", "interrupted", "incomplete"]

DECIDING = ("deploy", "test")  # the stages that judge the platform
DERIVED_STAGES = ("trace-analysis", "report")  # after the seal: their times differ each time they are made again
_MESSAGE = 900  # characters: a wait that names every deployment that hangs is long, and worth its length
ALL_PASSED = "all stations passed"
_ALL_PASSED = re.compile(
    r"(?:stuck at )?(?:nowhere: passed |nowhere$|all stations passed(?:: )?)"
)  # a chain's own words
EVIDENCE = ("collect", "trace-analysis")  # the stages that can only lose evidence


@dataclass(frozen=True)
class Failure:
    """What failed first: a step, or a stage that never got to a step. Times are RFC 3339."""

    where: str  # "step NAME/05 (deployment is there)" or "stage deploy"
    id: str  # step id or stage name
    message: str
    started: str
    duration_s: float
    stage: StageOutcome | None = None
    scenario: ScenarioResult | None = None
    step: StepResult | None = None


@dataclass(frozen=True)
class Verdict:
    """``word`` is how the run ended, ``reason`` why in one line, ``failure`` what failed first."""

    word: Word
    reason: str
    failure: Failure | None = None


def verdict(record: RunRecord, results: Results) -> Verdict:
    """Judge a run: the first deciding stage that did not pass decides; a failed step always fails the run.

    The report stage itself is left out, so that a report made again says the same.
    """
    failure = first_failure(record, results)
    for name in DECIDING:
        stage = record.stage(name)
        if stage is not None and stage.status == "interrupted" and not _failed_step(failure):
            reason = f"stage {name} was stopped from outside{_why(stage)}"
            return Verdict("interrupted", reason, failure)
        if failure is not None and (failure.stage is None or failure.stage.name == name):
            return Verdict("failed", f"{failure.where}: {failure.message}", failure)
    missing = _missing(record, results)
    if missing:
        return Verdict("incomplete", missing, failure)
    for name in EVIDENCE:
        stage = record.stage(name)
        if stage is not None and stage.status == "interrupted":
            return Verdict("interrupted", f"all steps passed, then stage {name} was stopped from outside{_why(stage)}")
        if stage is not None and stage.status == "failed":
            return Verdict("incomplete", f"all steps passed, but stage {name} failed{_why(stage)}", _of_stage(stage))
    return Verdict("passed", f"{results.passed} of {results.total} steps passed")


def first_failure(record: RunRecord, results: Results) -> Failure | None:
    """Return what failed first: the deploy stage, else the first failed step, else the test stage."""
    deploy, test = record.stage("deploy"), record.stage("test")
    if deploy is not None and deploy.status == "failed":
        return _of_stage(deploy)
    found = results.first_failure()
    if found is not None:
        scenario, step = found
        said = told(step.message) or step.hopeless or step.last_seen or "it failed without a message"
        where = f"step {step.id} ({one_line(step.name, 80)})"
        return Failure(where, step.id, one_line(said, _MESSAGE), step.started, step.duration_s, test, scenario, step)
    return _of_stage(test) if test is not None and test.status == "failed" else None


def told(message: str) -> str:
    """Return a step's message with a chain that was passed to its end in plain words."""
    return _ALL_PASSED.sub(f"{ALL_PASSED}: ", message, count=1)


def stuck_at(step: StepResult) -> str:
    """Return where the chain stopped; empty when every station was passed, or none was asked."""
    return "" if _ALL_PASSED.match(step.stuck_at) else step.stuck_at


def known(step: StepResult) -> str:
    """Return what a failed step knows in one phrase: a hopeless state, where it stuck, else the difference."""
    return step.hopeless or stuck_at(step) or step.last_seen or first_change(step.diff) or told(step.message)


def first_change(diff: str) -> str:
    """Return the first differing value of a diff on one line, empty where it has none."""
    rows = [row for row in diff.splitlines() if row.strip() and not row.startswith(("---", "+++", "@@"))]
    expected, got = (next((row[1:].strip() for row in rows if row.startswith(mark)), "") for mark in "-+")
    if expected or got:
        return f"expected {expected or 'nothing'}, got {got or 'nothing'}"
    return rows[0].strip() if rows else ""


def _of_stage(stage: StageOutcome) -> Failure:
    said = one_line(stage.error, _MESSAGE) or f"exit code {stage.exit_code}, no error was recorded"
    return Failure(f"stage {stage.name}", stage.name, said, stage.started, stage.duration_s, stage)


def _failed_step(failure: Failure | None) -> bool:
    return failure is not None and failure.step is not None


def _why(stage: StageOutcome) -> str:
    return f": {one_line(stage.error)}" if stage.error else ""


def _missing(record: RunRecord, results: Results) -> str:
    if not record.stages:
        return "run.json records no stage: nothing is known to have run"
    test = record.stage("test")
    if test is None or test.status == "skipped":
        return "the scenarios did not run: stage test has no outcome" if test is None else "stage test was skipped"
    if not results.scenarios:
        return "stage test passed, but k8s-e2e-results.json holds no scenario"
    if results.passed + results.failed == 0:
        return "no step passed or failed: everything was skipped"
    return ""
