"""Section 0: the machine-readable head, and the title line."""

from collections import Counter
from typing import Any

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.verdict import Verdict
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.story import Findings

SCHEMA = "k8s-e2e/report/1"


def front(facts: Facts, findings: Findings | None) -> dict[str, Any]:
    """Return the head: run, commit, verdict, counts, top finding, schema version."""
    head = identity(facts.observed.record, facts.observed.results, facts.verdict)
    if findings is not None:
        counts = Counter(finding.severity for finding in findings.findings)
        head["findings"] = {severity: counts[severity] for severity in ("error", "warning", "info")}
        top = next((finding for finding in findings.findings if finding.severity == "error"), None)
        head["top_finding"] = {"id": top.id, "fault": top.fault, "title": one_line(top.title, 160)} if top else None
    return head


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
    return one_line(f"{verdict.word.upper()}: {verdict.failure.where if verdict.failure else verdict.reason}", 200)
