"""A run that did not pass in two lines, for the end of a console: the cause and what mends it."""

import contextlib

from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.verdict import Verdict, verdict
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.story import Finding, Findings
from k8s_e2e.report.sections.cause import FAULTS, cause_of

_WIDTH = 300  # characters of a line; the report has all of it


def in_short(run: RunDir) -> list[str]:
    """Return cause and fix of the first finding, else what the failing step or stage said; nothing if all passed."""
    observed = Observed(run)
    record = observed.record
    judged = verdict(record, observed.results)
    found = _found(run, record)
    told = _of_finding(found, judged) if found else _of_verdict(judged, record)
    return [one_line(f"{name}: {text}", _WIDTH) for name, text in told if text]


def _found(run: RunDir, record: RunRecord) -> Finding | None:
    """Return the first finding that is an error; those of an earlier pass, before the report failed, tell nothing."""
    report = record.stage("report")
    if report is None or report.status != "passed":
        return None
    with contextlib.suppress(UsageError, OSError):
        return next((one for one in io.load(run.findings, Findings).findings if one.severity == "error"), None)
    return None


def _of_finding(finding: Finding, judged: Verdict) -> list[tuple[str, str]]:
    cause = f"Cause (fault lies with: {FAULTS[finding.fault]})"
    return [(cause, cause_of(finding, judged.failure)), ("Fix", finding.fix)]


def _of_verdict(judged: Verdict, record: RunRecord) -> list[tuple[str, str]]:
    if judged.failure is not None:
        stage = judged.failure.stage if judged.failure.step is None else None
        return [("Failed", f"{judged.failure.where}: {judged.failure.message}"), ("Hint", stage.hint if stage else "")]
    if judged.word != "passed":
        return [("Why", judged.reason)]
    failed = next((stage for stage in record.stages if stage.status == "failed"), None)
    return [("Failed", f"stage {failed.name}: {failed.error}"), ("Hint", failed.hint)] if failed else []
