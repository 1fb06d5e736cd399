"""Stage deploy: a cluster, the images in it, the platform applied and available."""

import platform as machine
from importlib import metadata

from k8s_e2e.base import files, journal
from k8s_e2e.cluster import images
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.cluster.providers import get_provider
from k8s_e2e.evidence import recorder
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.parameters import DeployParameters
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.model.run import ImageRecord, RunRecord
from k8s_e2e.model.settings import Settings, load_settings
from k8s_e2e.platform import manifests, namespace, rollout
from k8s_e2e.stages import session
from k8s_e2e.stages.outcome import begin, recorded
from k8s_e2e.stages.table import Table


def deploy(parameters: DeployParameters) -> Table:
    """Stand the platform up and return a table of the images that run in it.

    Raises:
        UsageError: the run directory or the profile is wrong.
        EnvironmentFailure: cluster, image build or load; nothing has been applied.
        ExpectationError: the platform did not become available.
    """
    run, settings = RunDir.claim(parameters.run_dir), load_settings()
    with recorded(run, "deploy"):
        profile = load_profile(parameters.profile)
        if not io.load_or(run.run_json, RunRecord).run_id:  # a stage run by hand: no pipeline has begun the run
            begin(run, profile, parameters.model_dump(mode="json"))
        cluster = _cluster(run, parameters, settings)
        provider = get_provider(cluster.provider, settings)
        third = {} if provider.pulls else _third_party(profile, cluster, settings)
        loaded = _images(run, profile, cluster, list(third.values()), settings)
        swapped = {name: image.reference for name, image in third.items()}
        _platform(run, profile, cluster, swapped, settings)
    rows = [[image.reference, image.source, f"{image.bytes / 1e6:.1f}"] for image in loaded]
    return Table(["image", "source", "MB"], rows, title="Images in the cluster")


def _cluster(run: RunDir, parameters: DeployParameters, settings: Settings) -> Cluster:
    provider = get_provider(parameters.provider, settings)
    if parameters.reuse:
        cluster = provider.attach(parameters.cluster)
    else:
        cluster = provider.up(parameters.cluster, progress=journal.progress)
    record = io.load_or(run.run_json, RunRecord)
    record.provider, record.cluster = provider.name, cluster.name
    record.tools = {"k8s-e2e": metadata.version("k8s-e2e"), "python": machine.python_version(), **cluster.versions}
    files.write_json(run.run_json, record)
    return cluster


def _third_party(profile: Profile, cluster: Cluster, settings: Settings) -> dict[str, images.BuiltImage]:
    """Return what takes the place of the third-party images that the manifests name; nothing else is made."""
    named = manifests.mentioned(manifests.render(profile, cluster.kubectl, images={}))
    return images.third_party_images(named, settings, journal.progress)


def _images(
    run: RunDir, profile: Profile, cluster: Cluster, third: list[images.BuiltImage], settings: Settings
) -> list[ImageRecord]:
    built = images.build_images(profile, settings, logs=run.logs, progress=journal.progress)
    provider = get_provider(cluster.provider, settings)
    loaded = images.load_and_verify(provider, cluster.name, [*built, *third], journal.progress)
    record = io.load(run.run_json, RunRecord)
    record.images = loaded
    files.write_json(run.run_json, record)
    return loaded


def _platform(run: RunDir, profile: Profile, cluster: Cluster, swapped: dict[str, str], settings: Settings) -> None:
    objects = manifests.render(profile, cluster.kubectl, images=swapped)
    run_id = io.load(run.run_json, RunRecord).run_id
    with session.opened(run, cluster, profile, settings) as opened:
        namespace.claim(opened.kube, profile.namespace, run_id, journal.progress)
        recorder.start(run, cluster, profile.namespace, profile, settings)
        manifests.apply_all(opened.kube, objects, profile.namespace, progress=journal.progress)
        rollout.wait_rollout(
            opened.kube, profile.namespace, timeout_s=settings.rollout_timeout_s, progress=journal.progress
        )
