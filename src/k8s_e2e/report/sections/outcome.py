"""What run.json and the results alone say: the head, the title, the verdict and what failed first.

Nothing here needs evidence or rules: the minimal report, made when something else went wrong, stands on this alone.
"""

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import PurePath
from typing import Any, NamedTuple

from k8s_e2e.base.files import dumps
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.verdict import ALL_PASSED, DERIVED_STAGES, Failure, Verdict, known, stuck_at
from k8s_e2e.model.results import Results, ScenarioResult, StepResult
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.report.model import Code, Line, Strong, label

SCHEMA = "k8s-e2e/report/1"
_TITLE = 240  # characters

Item = Line | list[Line]


class Cause(NamedTuple):
    """What is known of why it failed, as list items: what to read ``first``, and what bears it out (``more``).

    ``fix`` is what the first of them recommend: a stage's hint that says the same is not told again.
    """

    first: Sequence[Item] = ()
    more: Sequence[Item] = ()
    fix: str = ""


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
    where, what = _what_failed(verdict)
    return one_line(f"{verdict.word.upper()}: {where}{what}", _TITLE)


def headline(verdict: Verdict) -> Line:
    """Return the title with what was seen in code: JSON in it stays readable where special characters are escaped."""
    where, what = _what_failed(verdict)
    lead = f"{verdict.word.upper()}: {where}"
    return (lead, Code(one_line(what, max(_TITLE - len(lead), _TITLE // 3)))) if where else title(verdict)


def _what_failed(verdict: Verdict) -> tuple[str, str]:
    """Return where it failed, with its colon, and what was seen there; else nothing and the reason."""
    failure = verdict.failure
    if failure is not None and failure.step is not None:
        return f"{failure.where}: ", known(failure.step) or failure.message
    if failure is not None and verdict.word == "failed":
        return f"{failure.where}: ", failure.message
    return "", verdict.reason


def outcome(record: RunRecord, results: Results, verdict: Verdict, cause: Cause = Cause()) -> list[Item]:  # noqa: B008 - immutable
    """Return what failed, its ``cause``, how to run it again, the verdict and what was seen, as list items.

    Needs run.json and results alone. What is read first stands first: what was expected and seen may be long.
    """
    standing = _standing(record, results, verdict)
    if verdict.word == "passed":
        return [*standing, *cause.first, *cause.more]
    failure = verdict.failure
    items: list[Item] = []
    if failure is not None:
        took = f", started {failure.started}, took {failure.duration_s:.1f} s"
        items.append(label("Failed", Code(failure.where), took))
    if failure is None or verdict.word != "failed":
        items.append(label("Why", Code(verdict.reason)))
    items += [*cause.first, label("Again (in the project)", Code(again(record, failure))), *cause.more, *standing]
    return [*items, *_seen(failure, cause.fix)] if failure else items


def _standing(record: RunRecord, results: Results, verdict: Verdict) -> list[Line]:
    counts = step_counts(results)
    words = ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped"))
    stages = ", ".join(_stage(stage) for stage in record.stages if stage.name != "report")
    items: list[Line] = [
        label("Verdict", Strong(verdict.word), f"; {words} of {counts['total']} steps{_cleanup(results)}"),
        label("Stages", stages or "none recorded"),
    ]
    if record.cluster:
        items.append(label("Cluster", Code(record.cluster), f" ({one_line(record.provider) or 'unknown provider'})"))
    return items


def _cleanup(results: Results) -> str:
    count = sum(len(scenario.cleanup) for scenario in results.scenarios)
    return f", {count} of them cleanup" if count else ""


def again(record: RunRecord, failure: Failure | None) -> str:
    """Return the command that runs it again: what was asked for then, else (or if that was another) what failed."""
    asked = record.parameters.get("scenarios")
    names = [str(name) for name in asked] if isinstance(asked, list) else []
    scenario = failure.scenario if failure is not None else None
    if scenario is not None and not any(_asks_for(name, scenario) for name in names):
        names = [scenario.name]
    words = ["run"]
    for option in ("provider", "cluster", "image_prefix"):
        chosen = str(record.parameters.get(option) or "")
        words += [f"--{option.replace('_', '-')}", chosen] if chosen not in ("", "auto") else []
    for name in names:
        words += ["--scenarios", name]
    return record.command(*words)


def _asks_for(name: str, scenario: ScenarioResult) -> bool:
    same_file = bool(scenario.source) and PurePath(name).name == PurePath(scenario.source).name
    return same_file or fnmatch(scenario.name, name)


def _stage(stage: StageOutcome) -> str:
    """A stage with its seconds; those made after the seal differ each time, so that theirs are left out."""
    took = f" ({stage.duration_s:.1f} s)" if stage.name not in DERIVED_STAGES and stage.status != "skipped" else ""
    return f"{stage.name} {stage.status}{took}"


def _seen(failure: Failure, fix: str) -> list[Line]:
    items: list[Line] = [
        *([label("Source", Code(failure.step.source))] if failure.step is not None and failure.step.source else []),
        label("Message", Code(failure.message)),
    ]
    step, stage = failure.step, failure.stage
    if step is not None:
        items += [label(name, Code(value(what))) for name, what in (("Expected", step.expected), ("Got", step.actual))
                  if what is not None]  # fmt: skip
        items += [label(name, Code(text)) for name, text in seen(step) if one_line(text, 900) not in failure.message]
    elif stage is not None:
        items.append(label("Exit code", str(stage.exit_code)))
        items += [label("Hint", Code(stage.hint))] if stage.hint and one_line(stage.hint) != fix else []
    return items


def seen(step: StepResult) -> list[tuple[str, str]]:
    """Return what a step saw besides its message, each with its name."""
    stuck = stuck_at(step)
    stations = ("Stuck at", stuck) if stuck or not step.stuck_at else ("Stations", ALL_PASSED)
    said = (("Last seen", step.last_seen), stations, ("Hopeless", step.hopeless))
    return [(name, text) for name, text in said if text]


def value(what: Any) -> str:
    """Return a JSON value on one line, a string as it is."""
    return what if isinstance(what, str) else one_line(dumps(what, indent=0))
