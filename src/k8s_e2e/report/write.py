"""Everything derived from a sealed run: written in one go, listed with its sha256 in `derived.json`."""

import hashlib
from collections.abc import Iterator

from k8s_e2e.base import files
from k8s_e2e.base.errors import UsageError
from k8s_e2e.diagnosis.engine import examine
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Derived, SealedFile
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.story import Findings
from k8s_e2e.report.build import build
from k8s_e2e.report.github.views import comment, step_summary
from k8s_e2e.report.html import html
from k8s_e2e.report.junit import junit
from k8s_e2e.report.markdown import render
from k8s_e2e.report.perfetto import perfetto
from k8s_e2e.report.scenario_report import scenario_report
from k8s_e2e.report.sections.results import folder
from k8s_e2e.report.timeline import timeline
from k8s_e2e.report.timeline_png import png
from k8s_e2e.report.timeline_text import chronology

_OF_OTHERS = ("findings.json", "trace-analysis.json", "exports/*")  # derived too, written by the layers below


def write_reports(run: RunDir) -> list[str]:
    """Write every report and return their paths in the run directory, sorted; `derived.json` is the last of them.

    The same sealed files give the same bytes. What is absent or unreadable is a blind spot in the report.

    Raises:
        DiskFull: no space left.
    """
    facts = Facts(Observed(run))
    written: list[str] = []
    for path, content in _contents(facts, _findings(facts)):
        files.write(run.path(path), content)
        written.append(path)
    listed = {*written, *(facts.observed.relative(path) for pattern in _OF_OTHERS for path in run.root.glob(pattern))}
    files.write_json(run.derived, Derived(files=[_hashed(run, path) for path in sorted(listed)]))
    return sorted([*written, "derived.json"])


def _findings(facts: Facts) -> Findings:
    """What `findings.json` says, or a fresh diagnosis where there is none."""
    facts.observed.everything()
    if facts.observed.run.findings.exists():
        try:
            return io.load(facts.observed.run.findings, Findings)
        except UsageError as error:
            facts.observed.blind("findings.json", f"unreadable ({error.message}): worked out again for this report")
    return examine(facts)


def _contents(facts: Facts, findings: Findings) -> Iterator[tuple[str, str | bytes]]:
    drawn = timeline(facts)
    report = build(facts, findings, drawn)
    yield "timeline.json", files.dumps(drawn)
    yield "timeline.png", png(drawn, title=report.title)
    yield "k8s/timeline.txt", chronology(drawn)
    yield "exports/timeline.perfetto.json", files.dumps(perfetto(drawn), indent=0)
    yield "REPORT.md", render(report)
    yield "REPORT.html", html(report, drawn, facts.observed.run)
    yield "step-summary.md", step_summary(report)
    yield "pr-comment.md", comment(report)
    yield "junit.xml", junit(facts.observed.results, facts.verdict, run_id=facts.observed.record.run_id)
    for scenario in facts.observed.results.scenarios:
        yield f"scenarios/{folder(scenario.name)}/report.md", render(scenario_report(facts, findings, scenario))


def _hashed(run: RunDir, path: str) -> SealedFile:
    raw = run.path(path).read_bytes()
    return SealedFile(path=path, sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))
