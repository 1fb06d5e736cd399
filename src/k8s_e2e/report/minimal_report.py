"""A report from `run.json` and the results alone, for when there is no time or the real one failed."""

import os
from pathlib import Path

from k8s_e2e.base import files
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.verdict import verdict
from k8s_e2e.model.layout import STAGES, RunDir
from k8s_e2e.model.run import RunRecord
from k8s_e2e.report.github.views import comment, step_summary
from k8s_e2e.report.markdown import render
from k8s_e2e.report.model import Bullets, Code, Para, Report, Section, label
from k8s_e2e.report.sections.outcome import Cause, Item, headline, identity, outcome, title

_LATER = STAGES[STAGES.index("collect") :]
_MAKES_UP = {
    "collect": "collects what the cluster, which is still there, shows, and analyses it",
    "trace-analysis": "analyses what was collected; the cluster is gone or has been collected from",
    "report": "tries the report again",
}


def minimal(run: RunDir, note: str, *, stays: bool = False) -> None:
    """Write REPORT.md from `run.json` and `k8s-e2e-results.json` only; ``note`` says why it is no more.

    ``stays``: the cluster is still there afterwards, so that what it shows can be collected.

    Quick (< 0.3 s, no pandas, no matplotlib), so that a signal handler can afford it; later the stages ``collect``,
    ``trace-analysis`` and ``report`` replace it.
    """
    observed = Observed(run)
    record, results = observed.record, observed.results
    judged = verdict(record, results)
    first = _missing(record)
    if first == "collect" and not stays:
        first = "trace-analysis"
    command = Code(record.command("run", "--from", first, "--run-dir", _shown(run.root)))
    told = Cause(first=(label("Next", command, f" {_MAKES_UP[first]}"),))
    items: list[Item] = [label("Note", Code(note)), *outcome(record, results, judged, told)]
    items += [label("Blind spot", Code(f"{path}: {why}")) for path, why in sorted(observed.blind_spots.items())]
    kept = Para("The evidence gathered so far is in this directory.")
    report = Report(
        title=title(judged),
        headline=headline(judged),
        verdict=judged.word,
        front={**identity(record, results, judged), "minimal": True},
        sections=(Section(1, "Verdict", (Bullets(tuple(items)), kept), ("run.json", "k8s-e2e-results.json")),),
    )
    files.write(run.report, render(report))
    files.write(run.path("step-summary.md"), step_summary(report))
    files.write(run.path("pr-comment.md"), comment(report))


def _missing(record: RunRecord) -> str:
    """Return the first of the stages from collect on that has not passed since those before it ran."""
    latest = ""
    for name in STAGES:
        stage = record.stage(name)
        if name in _LATER and (stage is None or stage.status != "passed" or stage.started < latest):
            return name
        latest = max(latest, stage.started if stage else "")
    return STAGES[-1]


def _shown(root: Path) -> str:
    """Return a path as it is typed here: relative to the working directory if it is below that."""
    here = Path.cwd()
    return os.path.relpath(root, here) if root.is_relative_to(here) else str(root)
