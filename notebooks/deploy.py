# %% [markdown]
# # Deploy
# A cluster, the images in it, the platform applied and available.

# %% Parameters tags=["parameters"]
run_dir: str = "reports/runs/by-hand"
profile: str = "k8s-e2e.toml"
provider: str = "auto"
cluster: str = "e2e"
reuse: bool = False
image_prefix: str = ""

# %% Deploy the platform
from k8s_e2e.model.parameters import DeployParameters
from k8s_e2e.stages.deploy import deploy

images = deploy(
    DeployParameters(
        run_dir=run_dir,
        profile=profile,
        provider=provider,
        cluster=cluster,
        reuse=reuse,
        image_prefix=image_prefix,
    )
)

# %% Images in the cluster
images
