# %% [markdown]
# # Report
# Findings, the report and its pictures, from the sealed files alone.

# %% Parameters tags=["parameters"]
run_dir: str = "reports/runs/by-hand"
profile: str = "k8s-e2e.toml"

# %% Write the report
from k8s_e2e.model.parameters import ReportParameters
from k8s_e2e.stages.report import report

findings = report(ReportParameters(run_dir=run_dir, profile=profile))

# %% Findings
findings

# %% Timeline
from k8s_e2e import Run

run = Run.open(run_dir)
run.plot_timeline()

# %% Steps
from k8s_e2e.stages.table import Table

steps = run.steps[["id", "name", "status", "duration_s"]]
Table(list(steps.columns), steps.values.tolist())
