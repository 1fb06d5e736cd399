"""From traces.json to trace-analysis.json."""

from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.traces import TraceAnalysis


def analyse(run: RunDir) -> TraceAnalysis:
    """Write trace-analysis.json and exports/traces.perfetto.json from traces.json; absent traces give an empty one."""
    raise NotImplementedError
