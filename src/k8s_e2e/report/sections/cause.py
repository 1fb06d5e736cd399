"""Section 1: the verdict, what failed and how, and the first cause with its chain: the first screen."""

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.verdict import Failure
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
    Table,
    label,
)
from k8s_e2e.report.sections.outcome import outcome

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
        items += _finding(errors[0], facts.failure)
    elif facts.verdict.word != "passed":
        items.append(label("Cause", "no rule of this kit explains it from the evidence collected; see the blind spots"))
    blocks: list[Block] = [Bullets(tuple(items))]
    failure = facts.verdict.failure
    if failure is not None and failure.step is not None and failure.step.diff:
        blocks.append(Pre(failure.step.diff, label("Difference (expected, actual) of", Code(failure.id))))
    if others:
        blocks.append(_others(others))
    return Section(1, "Verdict and cause", tuple(blocks), ("findings.json", "k8s-e2e-results.json"))


def _finding(finding: Finding, failure: Failure | None) -> list[Line | list[Line]]:
    """Tell a finding, but nothing that the lines about the failure have said already."""
    itself = finding.id == f"interrupted:{finding.step}" or (failure is not None and _told(finding.title, failure))
    cause = finding.detail if itself and finding.detail else finding.title
    items: list[Line | list[Line]] = [label(f"Cause (fault lies with: {FAULTS[finding.fault]})", Code(cause))]
    between = [link for link in finding.because if link != finding.title and not (failure and _told(link, failure))]
    if between:
        links: list[Line] = [Code(one_line(link, 220)) for link in between]
        if len(links) > _CHAIN:
            links = [*links[:2], f"({len(links) - _CHAIN} more in findings.json)", *links[2 - _CHAIN :]]
        items += ["What lies between, symptom first:", links]
    if finding.detail and finding.detail not in cause and not (failure and finding.detail in failure.message):
        items.append(label("Detail", Code(finding.detail)))
    if finding.evidence:
        items.append(label("Evidence", *_pointers(finding.evidence)))
    hint = one_line(failure.stage.hint) if failure is not None and failure.step is None and failure.stage else ""
    fix = "" if finding.fix == hint else finding.fix  # the hint stands above
    for name, text in (("Next", finding.next_command), ("Fix", fix), ("Disproved by", finding.disproof)):
        if text:
            items.append(label(name, Code(text)))
    return items


def _told(text: str, failure: Failure) -> bool:
    """Whether ``text`` says no more than the failure itself."""
    if text.startswith((f"{failure.where}: ", f"Step {failure.id} ")):
        return True
    return failure.step is None and text.startswith(f"Stage {failure.id} failed")


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
