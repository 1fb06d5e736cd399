"""A report from `run.json` and the results alone, for when there is no time or the real one failed."""

from k8s_e2e.base import files
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.verdict import verdict
from k8s_e2e.model.layout import RunDir
from k8s_e2e.report.markdown import render
from k8s_e2e.report.model import Bullets, Code, Line, Para, Report, Section, label
from k8s_e2e.report.sections.outcome import identity, outcome, title


def minimal(run: RunDir, note: str) -> None:
    """Write REPORT.md from `run.json` and `k8s-e2e-results.json` only; ``note`` says why it is no more.

    Quick (< 0.3 s, no pandas, no matplotlib), so that a signal handler can afford it; later the stages ``collect``,
    ``trace-analysis`` and ``report`` replace it.
    """
    observed = Observed(run)
    record, results = observed.record, observed.results
    judged = verdict(record, results)
    items: list[Line] = [label("Note", Code(note)), *outcome(record, results, judged)]
    items += [label("Blind spot", Code(f"{path}: {why}")) for path, why in sorted(observed.blind_spots.items())]
    items.append(
        label("Next", Code("k8s-e2e stage collect, then k8s-e2e stage trace-analysis, then k8s-e2e stage report"))
    )
    kept = Para("The evidence gathered so far is in this directory; nothing of it has been analysed.")
    report = Report(
        title=title(judged),
        verdict=judged.word,
        front={**identity(record, results, judged), "minimal": True},
        sections=(Section(1, "Verdict", (Bullets(tuple(items)), kept), ("run.json", "k8s-e2e-results.json")),),
    )
    files.write(run.report, render(report))
