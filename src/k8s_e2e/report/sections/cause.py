"""Section 1: what failed, the first cause with its chain, what to do, then what was seen: the first screen."""

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
from k8s_e2e.report.sections.outcome import Cause, Item, outcome

FAULTS = {
    "product": "the platform under test",
    "harness": "the test itself",
    "data": "the test's data",
    "infrastructure": "the infrastructure",
    "ci": "the CI system",
    "unknown": "not known",
}
_CHAIN = 5  # links shown on the first screen
_READERS = ("grep", "tail", "ls")  # what findings recommend to read a file of the run


def section(facts: Facts, findings: Findings) -> Section:
    """Return section 1."""
    errors = [finding for finding in findings.findings if finding.severity == "error"]
    others = [finding for finding in findings.findings if finding not in errors[:1]]
    cause = Cause()
    if errors:
        cause = _finding(errors[0], facts.failure, program=facts.observed.record.command())
    elif facts.verdict.word != "passed":
        unknown = "no rule of this kit explains it from the evidence collected; see the blind spots"
        cause = Cause(first=(label("Cause", unknown),))
    items = outcome(facts.observed.record, facts.observed.results, facts.verdict, cause)
    blocks: list[Block] = [Bullets(tuple(items))]
    failure = facts.verdict.failure
    if failure is not None and failure.step is not None and failure.step.diff:
        blocks.append(Pre(failure.step.diff, label("Difference (expected, actual) of", Code(failure.id))))
    if others:
        blocks.append(_others(others))
    return Section(1, "Verdict and cause", tuple(blocks), ("findings.json", "k8s-e2e-results.json"))


def cause_of(finding: Finding, failure: Failure | None) -> str:
    """Return a finding in one phrase: its detail where its title says no more than the failure."""
    itself = finding.id == f"interrupted:{finding.step}" or (failure is not None and _told(finding.title, failure))
    return finding.detail if itself and finding.detail else finding.title


def _finding(finding: Finding, failure: Failure | None, *, program: str) -> Cause:
    """Tell a finding, but nothing that the lines about the failure say."""
    cause = cause_of(finding, failure)
    first: list[Item] = [label(f"Cause (fault lies with: {FAULTS[finding.fault]})", Code(cause))]
    if finding.fix:
        first.append(label("Fix", Code(finding.fix)))
    if finding.next_command:
        first.append(label(f"Next{_where(finding.next_command, program)}", Code(finding.next_command)))
    items: list[Item] = []
    between = [link for link in finding.because if link != finding.title and not (failure and _told(link, failure))]
    if between:
        links: list[Line] = [Code(one_line(link, 220)) for link in between]
        if len(links) > _CHAIN:
            links = [*links[:2], f"({len(links) - _CHAIN} more in findings.json)", *links[2 - _CHAIN :]]
        items += ["Between the failure and the cause, symptom first:", links]
    if finding.detail and finding.detail not in cause and not (failure and finding.detail in failure.message):
        items.append(label("Detail", Code(finding.detail)))
    if finding.evidence:
        items.append(label("Evidence", *_pointers(finding.evidence)))
    if finding.disproof:
        items.append(label("Disproved by", Code(finding.disproof)))
    return Cause(first, items, finding.fix)


def _where(command: str, program: str) -> str:
    """Return where a command works: what reads files names those of the run, the kit's own finds the profile."""
    word = command.partition(" ")[0]
    if word in _READERS:
        return " (in the run directory)"
    return " (in the project)" if word == program.partition(" ")[0] else ""


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
