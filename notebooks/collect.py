# %% [markdown]
# # Collect
# Everything observed is gathered, then sealed.

# %% Parameters tags=["parameters"]
run_dir: str = "reports/runs/by-hand"
profile: str = "k8s-e2e.toml"

# %% Collect and seal
from k8s_e2e.model.parameters import CollectParameters
from k8s_e2e.stages.collect import collect

parts = collect(CollectParameters(run_dir=run_dir, profile=profile))

# %% What was collected
parts
