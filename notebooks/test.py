# %% [markdown]
# # Test
# The scenarios against the running platform.

# %% Parameters tags=["parameters"]
run_dir: str = "reports/runs/by-hand"
profile: str = "k8s-e2e.toml"
scenarios: list[str] = []

# %% Run the scenarios
from k8s_e2e.model.parameters import TestParameters
from k8s_e2e.stages.test import test

steps = test(TestParameters(run_dir=run_dir, profile=profile, scenarios=scenarios))

# %% Steps
steps
