"""Stage trace-analysis: what the sealed traces say."""

from k8s_e2e.base import journal
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import TraceAnalysisParameters
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.traces import TraceAnalysis
from k8s_e2e.stages.outcome import recorded
from k8s_e2e.stages.table import Table
from k8s_e2e.traces import analysis

SHOWN = 30  # rows; trace-analysis.json has all


def trace_analysis(parameters: TraceAnalysisParameters) -> Table:
    """Analyse `traces.json` into `trace-analysis.json` and return a table of the traces.

    Raises:
        UsageError: not a run directory.
    """
    run = RunDir.existing(parameters.run_dir)
    with recorded(run, "trace-analysis"):
        analysed = analysis.analyse(run)
        if "traces" in io.load_or(run.run_json, RunRecord).unconfigured:
            journal.progress("no traces: the profile has no [traces]")
            return Table(["trace"], [], title="Traces (the profile has no [traces])")
    return table(analysed)


def table(analysed: TraceAnalysis) -> Table:
    """Return one row a trace, slowest first, with what its critical path spent most time in."""
    rows = []
    for trace in sorted(analysed.traces, key=lambda trace: (-trace.duration_ms, trace.trace_id))[:SHOWN]:
        longest = max(trace.path, key=lambda segment: segment.duration_us, default=None)
        where = f"{longest.service}: {longest.operation} ({longest.duration_us / 1000:.1f} ms)" if longest else ""
        began = f"{trace.service}: {trace.operation}"
        rows.append([trace.trace_id, trace.step, began, trace.duration_ms, trace.spans, trace.errors, where])
    columns = ["trace", "step", "began with", "ms", "spans", "errors", "longest on the critical path"]
    cut = f", the slowest {SHOWN}" if len(analysed.traces) > SHOWN else ""
    return Table(columns, rows, title=f"{len(analysed.traces)} traces{cut}" if rows else "Traces")
