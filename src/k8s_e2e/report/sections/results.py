"""Section 2: what was tried, failing steps first, passing ones folded."""

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.verdict import first_change, known, told
from k8s_e2e.model.results import ScenarioResult, StepResult
from k8s_e2e.model.story import Findings
from k8s_e2e.report.model import Block, Code, Fold, Line, Link, Para, Section, Table

MARKS = {"passed": "✓ passed", "failed": "✗ failed", "skipped": "· skipped"}
_MOST = 40
_REST_MOST = 150  # rows of what did not fail: some 17 KB of the 48 that REPORT.md may have


def section(facts: Facts, findings: Findings) -> Section:
    """Return section 2."""
    scenarios = facts.observed.results.scenarios
    if not scenarios:
        return Section(2, "Results", (Para("No scenario has a result."),))
    blocks: list[Block] = [_scenarios(scenarios)]
    steps = [step for scenario in scenarios for step in [*scenario.steps, *scenario.cleanup]]
    by_step = {finding.step: finding.id for finding in reversed(findings.findings) if finding.step}
    failed = [step for step in steps if step.status == "failed"]
    if failed:
        blocks.append(_failed(failed, by_step))
    rest = [step for step in steps if step.status != "failed"]
    if rest:
        skipped = sum(step.status == "skipped" for step in rest)
        counts = ((len(rest) - skipped, "passed"), (skipped, "skipped"))
        words = " and ".join(f"{count} {status}" for count, status in counts if count)
        blocks.append(Fold(f"{words} step(s)", (steps_table(rest, _REST_MOST),)))
    return Section(2, "Results", tuple(blocks), ("k8s-e2e-results.json", "junit.xml"))


def _scenarios(scenarios: list[ScenarioResult]) -> Table:
    rows = []
    for scenario in sorted(scenarios, key=lambda one: one.status != "failed"):
        every = [*scenario.steps, *scenario.cleanup]
        done = sum(step.status == "passed" for step in every)
        report = Link(f"scenarios/{folder(scenario.name)}/report.md", "report")
        steps = f"{done} of {len(every)}"
        rows.append((MARKS[scenario.status], Code(scenario.name), steps, f"{scenario.duration_s:.1f}", report))
    return Table(("status", "scenario", "steps passed (cleanup included)", "seconds", "more"), tuple(rows))


def folder(name: str) -> str:
    """Return a scenario's name as a directory name: nothing in it can climb or hide."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".")
    return safe[:100] or "scenario"


def _failed(failed: list[StepResult], by_step: dict[str, str]) -> Table:
    rows: list[tuple[Line, ...]] = []
    for step in failed[:_MOST]:
        window = f"{step.started[11:23]} + {step.duration_s:.1f} s"
        rows.append(
            (
                Code(one_line(f"{step.id} {step.name}", 100)),
                Code(one_line(_difference(step), 240)),
                window,
                Code(by_step.get(step.id, "")),
            )
        )
    more: Line = (f"{len(failed) - _MOST} more in ", Link("k8s-e2e-results.json")) if len(failed) > _MOST else ""
    return Table(("failed step", "difference", "window (UTC)", "finding"), tuple(rows), more=more)


def _difference(step: StepResult) -> str:
    """What differed: in the step's own words where they compare, else by its diff."""
    words = (text for text in (step.last_seen, step.message) if "expected" in text)
    return told(next(words, "") or first_change(step.diff) or known(step))


def steps_table(steps: list[StepResult], most: int) -> Table:
    """Return one row a step: status, id and name, kind, seconds, message."""
    rows = tuple(
        (
            MARKS[step.status],
            Code(one_line(f"{step.id} {step.name}", 100)),
            step.kind,
            f"{step.duration_s:.2f}",
            Code(one_line(told(step.message), 120)) if step.message else "",
        )
        for step in steps[:most]
    )
    more: Line = (f"{len(steps) - most} more in ", Link("k8s-e2e-results.json")) if len(steps) > most else ""
    return Table(("status", "step", "kind", "seconds", "message"), rows, more=more)
