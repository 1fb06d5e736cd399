"""Section 1: the verdict, what failed and how, and the first cause with its chain: the first screen."""

from typing import Any

from k8s_e2e.base.files import dumps
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.verdict import Failure, Verdict
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.story import Finding, Findings
from k8s_e2e.report.model import (
    Block,
    Bullets,
    Code,
    Fold,
    Inline,
    Line,
    Link,
    Para,
    Pre,
    Section,
    Strong,
    Table,
    label,
)
from k8s_e2e.report.sections.front import step_counts
from k8s_e2e.report.timeline import DERIVED_STAGES

FAULTS = {
    "product": "the platform under test",
    "harness": "the test itself",
    "data": "the test's data",
    "infrastructure": "the infrastructure",
    "ci": "the CI system",
    "unknown": "not known",
}
_CHAIN = 5  # links shown on the first screen


def section(facts: Facts, findings: Findings) -> Section:
    """Return section 1."""
    errors = [finding for finding in findings.findings if finding.severity == "error"]
    others = [finding for finding in findings.findings if finding not in errors[:1]]
    items: list[Line | list[Line]] = [*outcome(facts.observed.record, facts.observed.results, facts.verdict)]
    if errors:
        items += _finding(errors[0])
    elif facts.verdict.word != "passed":
        items.append(label("Cause", "no rule of this kit explains it from the evidence collected; see the blind spots"))
    blocks: list[Block] = [Bullets(tuple(items))]
    failure = facts.verdict.failure
    if failure is not None and failure.step is not None and failure.step.diff:
        blocks.append(Pre(failure.step.diff, label("Difference (expected, actual) of", Code(failure.id))))
    if others:
        blocks.append(_others(others))
    return Section(1, "Verdict and cause", tuple(blocks), ("findings.json", "k8s-e2e-results.json"))


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


def _finding(finding: Finding) -> list[Line | list[Line]]:
    items: list[Line | list[Line]] = [
        label(f"Cause (fault lies with: {FAULTS[finding.fault]})", Code(finding.title)),
    ]
    if len(finding.because) > 1:
        links: list[Line] = [Code(one_line(link, 220)) for link in finding.because]
        if len(links) > _CHAIN:
            links = [*links[:2], f"({len(links) - _CHAIN} more in findings.json)", *links[2 - _CHAIN :]]
        items += ["Because, symptom first:", links]
    if finding.detail and finding.detail not in finding.title:
        items.append(label("Detail", Code(finding.detail)))
    if finding.evidence:
        items.append(label("Evidence", *_pointers(finding.evidence)))
    for name, text in (("Next", finding.next_command), ("Fix", finding.fix), ("Disproved by", finding.disproof)):
        if text:
            items.append(label(name, Code(text)))
    return items


def _pointers(evidence: list[str], most: int = 4) -> tuple[Inline, ...]:
    shown: list[Inline] = []
    for pointer in evidence[:most]:
        shown += [", ", Code(pointer)] if shown else [Code(pointer)]
    if len(evidence) > most:
        shown.append(f" and {len(evidence) - most} more")
    return tuple(shown)


def _others(findings: list[Finding], most: int = 12) -> Fold:
    rows = tuple(
        (finding.severity, finding.fault, Code(one_line(finding.title, 180)), _pointers(finding.evidence, 2))
        for finding in findings[:most]
    )
    more: Line = (f"{len(findings) - most} more in ", Link("findings.json")) if len(findings) > most else ""
    table = Table(("severity", "fault", "finding", "evidence"), rows, more=more)
    return Fold(f"{len(findings)} other finding(s)", (table,)) if findings else Fold("", (Para(""),))
