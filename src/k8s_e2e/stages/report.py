"""Stage report: findings, REPORT.md and every other view, from the sealed files alone."""

from k8s_e2e.diagnosis import diagnose
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import ReportParameters
from k8s_e2e.report import write_reports
from k8s_e2e.stages.outcome import recorded
from k8s_e2e.stages.table import Table


def report(parameters: ReportParameters) -> Table:
    """Write everything derived and return a table of the findings.

    Raises:
        UsageError: not a run directory.
    """
    run = RunDir.existing(parameters.run_dir)
    with recorded(run, "report"):
        found = diagnose(run)
        write_reports(run)
    rows = [[finding.severity, finding.fault, finding.title, finding.object] for finding in found.findings]
    return Table(["severity", "fault", "finding", "object"], rows, title="Findings")
