"""Stage deploy: a cluster, the images in it, the platform applied and available."""

import contextlib
import platform as machine
from importlib import metadata

from k8s_e2e.base import files, journal
from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster import images
from k8s_e2e.cluster.provider import Cluster, Provider
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.evidence import recorder
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import DeployParameters
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings, load_settings
from k8s_e2e.platform import image_prefix, manifests, namespace, ownership, rollout
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.running_images import running_images
from k8s_e2e.scenarios import loader
from k8s_e2e.stages import session, shared_cluster
from k8s_e2e.stages.outcome import begin, recorded
from k8s_e2e.stages.table import Table


def deploy(parameters: DeployParameters) -> Table:
    """Stand the platform up and return a table of the images that run in it.

    Raises:
        UsageError: the run directory, the profile or the image prefix is wrong.
        EnvironmentFailure: cluster, image build or load; nothing has been applied.
        ExpectationError: the platform did not become available.
    """
    run, settings = RunDir.claim(parameters.run_dir), load_settings()
    with recorded(run, "deploy"):
        profile = load_profile(parameters.profile)
        if not io.load_or(run.run_json, RunRecord).run_id:  # a stage run by hand: no pipeline has begun the run
            begin(run, profile, parameters.model_dump(mode="json"))
        prefix = image_prefix.checked(parameters.image_prefix)
        cluster = _cluster(run, parameters, prefix, settings)
        provider = get_provider(cluster.provider, settings)
        swapped = {}
        if provider.loads:
            third = {} if provider.pulls else _third_party(profile, cluster, settings)
            _images(run, profile, cluster, list(third.values()), settings)
            swapped = {name: image.reference for name, image in third.items()}
        objects = _objects(profile, cluster, swapped, prefix)
        _platform(run, profile, cluster, objects, settings)
    loaded = io.load(run.run_json, RunRecord).images
    rows = [[image.reference, image.source, f"{image.bytes / 1e6:.1f}"] for image in loaded]
    return Table(["image", "source", "MB"], rows, title="Images in the cluster")


def _cluster(run: RunDir, parameters: DeployParameters, prefix: str, settings: Settings) -> Cluster:
    provider = get_provider(parameters.provider, settings)
    refuse_prefix(provider, prefix)
    if parameters.reuse:
        cluster = provider.attach(parameters.cluster)
    else:
        cluster = provider.up(parameters.cluster, progress=journal.progress)
    record = io.load_or(run.run_json, RunRecord)
    record.provider, record.cluster = provider.name, cluster.name
    record.identity, record.image_prefix = session.identity(cluster), prefix
    record.tools = {"k8s-e2e": metadata.version("k8s-e2e"), "python": machine.python_version(), **cluster.versions}
    files.write_json(run.run_json, record)
    return cluster


def refuse_prefix(provider: Provider, prefix: str) -> None:
    """Refuse a prefix where images are loaded into the nodes.

    Raises:
        UsageError: there is one, and they are.
    """
    if prefix and provider.loads:
        message = f"--image-prefix {prefix}: provider {provider.name} loads the images that it builds and pulls none"
        raise UsageError(message, hint="leave it out, or use --provider existing")


def _third_party(profile: Profile, cluster: Cluster, settings: Settings) -> dict[str, images.BuiltImage]:
    """Return what takes the place of the third-party images that the manifests name; nothing else is made."""
    named = manifests.mentioned(manifests.render(profile, cluster.kubectl, images={}))
    return images.third_party_images(named, settings, journal.progress)


def _images(
    run: RunDir, profile: Profile, cluster: Cluster, third: list[images.BuiltImage], settings: Settings
) -> None:
    built = images.build_images(profile, settings, logs=run.logs, progress=journal.progress)
    provider = get_provider(cluster.provider, settings)
    loaded = images.load_and_verify(provider, cluster.name, [*built, *third], journal.progress)
    record = io.load(run.run_json, RunRecord)
    record.images = loaded
    files.write_json(run.run_json, record)


def _objects(profile: Profile, cluster: Cluster, swapped: dict[str, str], prefix: str) -> list[manifests.Object]:
    objects = manifests.render(profile, cluster.kubectl, images=swapped)
    own = image_prefix.own_images(profile)
    if prefix:
        journal.progress(f"{len(own)} images come from {prefix}")
        return image_prefix.prefixed(objects, own, prefix)
    if cluster.shared and own:
        journal.progress(
            f"no --image-prefix: the nodes must have, or pull, the images as the manifests name them: {', '.join(own)}"
        )
    return objects


def _platform(
    run: RunDir, profile: Profile, cluster: Cluster, objects: list[manifests.Object], settings: Settings
) -> None:
    run_id = io.load(run.run_json, RunRecord).run_id
    marked = ownership.marked(objects, run_id)
    with session.opened(run, cluster, profile, settings) as opened:
        kube = opened.kube
        if cluster.shared:
            marked = shared_cluster.prepare(kube, profile, marked, run_id, _scenarios(run, profile), journal.progress)
        else:
            namespace.claim(kube, profile.namespace, run_id, journal.progress)
        recorder.start(run, cluster, profile.namespace, profile, settings)
        try:
            manifests.apply_all(kube, marked, profile.namespace, progress=journal.progress)
            rollout.wait_rollout(
                kube,
                profile.namespace,
                timeout_s=settings.rollout_timeout_s,
                progress=journal.progress,
                kinds={obj["kind"] for obj in marked},
            )
        finally:
            if cluster.shared:
                _note_images(run, kube, profile.namespace)


def _scenarios(run: RunDir, profile: Profile) -> list[loader.Scenario]:
    """Return the scenarios that the run will come to: what they do must be allowed, too."""
    asked = io.load(run.run_json, RunRecord).parameters.get("scenarios")
    return loader.load(list(asked or profile.scenarios), profile)


def _note_images(run: RunDir, kube: Kube, name: str) -> None:
    """Write into `run.json` what the pods say they run: nobody else knows what was pulled."""
    with contextlib.suppress(ApiError):
        record = io.load(run.run_json, RunRecord)
        record.images = running_images(kube.list("v1", "Pod", name)["items"])
        files.write_json(run.run_json, record)
