"""What run.json and the results alone say: the head, the title, the verdict and what failed first.

Nothing here needs evidence or rules: the minimal report, made when something else went wrong, stands on this alone.
"""

from collections import Counter
from typing import Any

from k8s_e2e.base.files import dumps
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.verdict import DERIVED_STAGES, Failure, Verdict
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.report.model import Code, Line, Strong, label

SCHEMA = "k8s-e2e/report/1"


def identity(record: RunRecord, results: Results, verdict: Verdict) -> dict[str, Any]:
    """Return the part of the head that needs neither evidence nor findings."""
    return {
        "schema": SCHEMA,
        "run": one_line(record.run_id),
        "attempt": record.attempt,
        "commit": one_line(record.commit),
        "started": one_line(record.started),
        "provider": one_line(record.provider),
        "namespace": one_line(record.namespace),
        "verdict": verdict.word,
        "steps": step_counts(results),
    }


def step_counts(results: Results) -> dict[str, int]:
    """Count the steps themselves, cleanup included."""
    counts = Counter(step.status for one in results.scenarios for step in [*one.steps, *one.cleanup])
    return {
        "total": counts.total(),
        "passed": counts["passed"],
        "failed": counts["failed"],
        "skipped": counts["skipped"],
    }


def title(verdict: Verdict) -> str:
    """Return the title line: the verdict, and what failed."""
    failure = verdict.failure
    what = verdict.reason if failure is None or failure.step is None else failure.where
    return one_line(f"{verdict.word.upper()}: {what}", 160)


def outcome(record: RunRecord, results: Results, verdict: Verdict) -> list[Line]:
    """Return the verdict and what failed, as list items; needs run.json and results alone."""
    counts = step_counts(results)
    words = ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped"))
    stages = ", ".join(_stage(stage) for stage in record.stages if stage.name != "report")
    items: list[Line] = [
        label("Verdict", Strong(verdict.word), f"; {words} of {counts['total']} steps"),
        label("Stages", stages or "none recorded"),
    ]
    if verdict.failure is None:
        return [*items, label("Why", Code(verdict.reason))] if verdict.word != "passed" else items
    if verdict.word != "failed":
        items.append(label("Why", Code(verdict.reason)))
    return [*items, *_failure(verdict.failure)]


def _stage(stage: StageOutcome) -> str:
    """A stage with its seconds; those made after the seal differ each time, so that theirs are left out."""
    took = f" ({stage.duration_s:.1f} s)" if stage.name not in DERIVED_STAGES and stage.status != "skipped" else ""
    return f"{stage.name} {stage.status}{took}"


def _failure(failure: Failure) -> list[Line]:
    items: list[Line] = [
        label("Failed", Code(failure.where), f", started {failure.started}, took {failure.duration_s:.1f} s"),
        label("Message", Code(failure.message)),
    ]
    step, stage = failure.step, failure.stage
    if step is not None:
        items += [label(name, Code(value(what))) for name, what in (("Expected", step.expected), ("Got", step.actual))
                  if what is not None]  # fmt: skip
        said = (("Last seen", step.last_seen), ("Stuck at", step.stuck_at), ("Hopeless", step.hopeless))
        items += [label(name, Code(text)) for name, text in said if text]
    elif stage is not None:
        items.append(label("Exit code", str(stage.exit_code)))
        items += [label("Hint", Code(stage.hint))] if stage.hint else []
    return items


def value(what: Any) -> str:
    """Return a JSON value on one line, a string as it is."""
    return what if isinstance(what, str) else one_line(dumps(what, indent=0))
