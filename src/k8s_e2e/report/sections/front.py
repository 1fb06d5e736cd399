"""Section 0: the machine-readable head."""

from collections import Counter
from typing import Any

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.model.story import Findings
from k8s_e2e.report.sections.outcome import identity


def front(facts: Facts, findings: Findings | None) -> dict[str, Any]:
    """Return the head: run, commit, verdict, counts, top finding, schema version."""
    head = identity(facts.observed.record, facts.observed.results, facts.verdict)
    if findings is not None:
        counts = Counter(finding.severity for finding in findings.findings)
        head["findings"] = {severity: counts[severity] for severity in ("error", "warning", "info")}
        top = next((finding for finding in findings.findings if finding.severity == "error"), None)
        head["top_finding"] = {"id": top.id, "fault": top.fault, "title": one_line(top.title, 160)} if top else None
    return head
