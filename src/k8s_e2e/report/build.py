"""From the facts of one run to the one report model that every view shows."""

from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.model.story import Findings, Timeline
from k8s_e2e.report.model import Report
from k8s_e2e.report.sections import (
    artifacts,
    cause,
    custom_resources,
    log_lines,
    operator_actions,
    pods,
    results,
    screenshots,
    trace_summary,
    waterfall,
)
from k8s_e2e.report.sections.front import front
from k8s_e2e.report.sections.outcome import headline, title


def build(facts: Facts, findings: Findings, timeline: Timeline) -> Report:
    """Return the whole report of a run."""
    return Report(
        title=title(facts.verdict),
        headline=headline(facts.verdict),
        verdict=facts.verdict.word,
        front=front(facts, findings),
        sections=(
            cause.section(facts, findings),
            results.section(facts, findings),
            waterfall.section(facts, timeline),
            operator_actions.section(facts),
            pods.section(facts),
            custom_resources.section(facts),
            trace_summary.section(facts),
            log_lines.section(facts),
            screenshots.section(facts),
            artifacts.section(facts, findings),
        ),
    )
