"""One report a scenario: every step in order, the failed ones in full."""

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.verdict import told
from k8s_e2e.model.results import ScenarioResult, StepResult
from k8s_e2e.model.story import Findings
from k8s_e2e.report.model import Block, Bullets, Code, Line, Para, Pre, Report, Section, label
from k8s_e2e.report.sections.outcome import SCHEMA, seen, value
from k8s_e2e.report.sections.results import steps_table

_STEPS_MOST = 500
_FAILED_MOST = 20


def scenario_report(facts: Facts, findings: Findings, scenario: ScenarioResult) -> Report:
    """Return the report of one scenario as the same model that REPORT.md is a view of."""
    steps = [*scenario.steps, *scenario.cleanup]
    failed = [step for step in steps if step.status == "failed"]
    front = {
        "schema": SCHEMA,
        "run": one_line(facts.observed.record.run_id),
        "scenario": one_line(scenario.name),
        "verdict": scenario.status,
        "failed_steps": [step.id for step in failed[:_FAILED_MOST]],
    }
    sections = [_overview(scenario), Section(2, "Steps", (steps_table(steps, _STEPS_MOST),))]
    if failed:
        blocks = tuple(block for step in failed[:_FAILED_MOST] for block in _failed(step, findings))
        sections.insert(1, Section(1, "Failed steps", blocks, ("k8s-e2e-results.json",)))
    title = one_line(f"{scenario.status.upper()}: scenario {scenario.name}", 200)
    return Report(title=title, verdict=scenario.status, front=front, sections=tuple(sections))


def _overview(scenario: ScenarioResult) -> Section:
    items: list[Line] = [label("Started", f"{scenario.started}, took {scenario.duration_s:.1f} s")]
    if scenario.description:
        items.insert(0, Code(scenario.description))
    if scenario.source:
        items.append(label("Source", Code(scenario.source)))
    items += [label("Captured", Code(f"{name} = {value(what)}")) for name, what in sorted(scenario.captures.items())]
    return Section(0, "Scenario", (Bullets(tuple(items)),))


def _failed(step: StepResult, findings: Findings) -> list[Block]:
    fields = (
        ("Message", told(step.message)),
        ("Expected", "" if step.expected is None else value(step.expected)),
        ("Got", "" if step.actual is None else value(step.actual)),
        *((name, text) for name, text in seen(step) if text not in told(step.message)),
        ("Source", step.source),
        ("Evidence", ", ".join([*step.evidence, *step.trace_ids])),
        ("Findings", ", ".join(finding.id for finding in findings.findings if finding.step == step.id)),
    )
    items: list[Line] = [label(name, Code(text)) for name, text in fields if text]
    head = Para(("Step ", Code(f"{step.id} {step.name}"), f" ({step.kind}), {step.attempts} attempt(s)"))
    return [head, Bullets(tuple(items)), *([Pre(step.diff)] if step.diff else [])]
