"""Stage trace-analysis: what the sealed traces say."""

from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import TraceAnalysisParameters
from k8s_e2e.model.traces import TraceAnalysis
from k8s_e2e.stages.outcome import recorded
from k8s_e2e.stages.table import Table
from k8s_e2e.traces import analysis


def trace_analysis(parameters: TraceAnalysisParameters) -> Table:
    """Analyse `traces.json` into `trace-analysis.json` and return a table of the traces.

    Raises:
        UsageError: not a run directory.
    """
    run = RunDir.claim(parameters.run_dir)
    with recorded(run, "trace-analysis"):
        analysed = analysis.analyse(run)
    return analysis_table(analysed)


def analysis_table(analysed: TraceAnalysis) -> Table:
    """Return one row a trace, slowest first."""
    raise NotImplementedError
