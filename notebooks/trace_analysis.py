# %% [markdown]
# # Trace analysis
# What the sealed traces say.

# %% Parameters tags=["parameters"]
run_dir: str = "reports/runs/by-hand"
profile: str = "k8s-e2e.toml"

# %% Analyse the traces
from k8s_e2e.model.parameters import TraceAnalysisParameters
from k8s_e2e.stages.trace_analysis import trace_analysis

traces = trace_analysis(TraceAnalysisParameters(run_dir=run_dir, profile=profile))

# %% Traces
traces
