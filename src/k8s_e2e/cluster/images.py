"""The images of a run: the platform's own built, third parties' made from binaries, all loaded at once and verified."""

import hashlib
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress, ticking
from k8s_e2e.cluster import assets, image_builds, oci
from k8s_e2e.cluster.oci import BuiltImage
from k8s_e2e.cluster.provider import LoadedImage, Provider
from k8s_e2e.model.profile import Profile
from k8s_e2e.model.run import ImageRecord
from k8s_e2e.model.settings import Settings

__all__ = ["THIRD_PARTY", "BuiltImage", "build_images", "load_and_verify", "third_party_images"]

_MB = 1e6

# name in the manifests -> asset, local name that replaces it, and the program's path as in the official image
THIRD_PARTY = {
    "otel/opentelemetry-collector": ("otelcol", "localhost/otel-collector", "/otelcol"),
    "jaegertracing/jaeger": ("jaeger", "localhost/jaeger", "/cmd/jaeger/jaeger-linux"),
    "registry.k8s.io/pause": ("pause", "registry.k8s.io/pause", "/pause"),
}


def build_images(profile: Profile, settings: Settings, *, logs: Path, progress: Progress) -> list[BuiltImage]:
    """Build every image of the profile whose inputs changed, one at a time; return all, in the profile's order.

    What each build printed is in ``logs/build-<image>.txt``.

    Raises:
        UsageError: a context or Dockerfile that the profile names is not there.
        EnvironmentFailure: there is no builder, or a build failed: its last lines, and where the rest is.
    """
    logs.mkdir(parents=True, exist_ok=True)
    builds = image_builds.ImageBuilds(settings, logs=logs, progress=progress)
    return [image for build in profile.images for image in builds.images(build, profile.root)]


def third_party_images(names: Collection[str], settings: Settings, progress: Progress) -> dict[str, BuiltImage]:
    """Return the image that takes the place of each third-party image of ``names`` (as in the manifests, no tag).

    Names that the kit has no program for are left out; for those that it has, only what they need is fetched or built.

    Raises:
        EnvironmentFailure: a binary can neither be found, downloaded nor built.
    """
    known = {name: made_of for name, made_of in THIRD_PARTY.items() if name in names}
    if not known:
        return {}
    found = assets.ensure([asset for asset, _, _ in known.values()], settings, progress)
    images = {}
    for name, (asset, repository, path) in known.items():
        binary = found.path(asset)
        reference = f"{repository}:{found.versions[asset]}"
        with binary.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        home = settings.cache_dir.absolute() / "images" / f"{asset}-{content[:16]}"
        cached = image_builds.cached(home, [reference])
        images[name] = cached[0] if cached else _from_binary(home, reference, path, binary)
    return images


def load_and_verify(
    provider: Provider, cluster_name: str, images: Sequence[BuiltImage], progress: Progress
) -> list[ImageRecord]:
    """Load what the cluster's nodes do not have yet, in one archive, and look that all is there afterwards.

    Raises:
        EnvironmentFailure: an archive is gone, a node refused it, or has another image than was built.
    """
    if missing := _absent(images, provider.images(cluster_name)):
        with tempfile.TemporaryDirectory(prefix="k8s-e2e-load-") as scratch:
            archive = oci.merge(missing, Path(scratch, "images.tar"))
            size = f"{archive.stat().st_size / _MB:.0f} MB"
            what = missing[0].reference if len(missing) == 1 else f"{len(missing)} images"
            with ticking(progress, f"loading {what} into the cluster, {size}"):
                provider.load(cluster_name, archive, progress=progress)
    there = provider.images(cluster_name)
    if absent := _absent(images, there):
        names = ", ".join(image.reference for image in absent)
        hint = "the log of its container runtime says why"
        raise EnvironmentFailure(f"images were loaded, but cluster {cluster_name} does not have {names}", hint=hint)
    sizes = {oci.full_reference(image.reference): image.bytes for image in there}
    return [
        ImageRecord(
            reference=image.reference,
            digest=image.digest,
            bytes=sizes[oci.full_reference(image.reference)] or image.bytes,
            source=image.source,
        )
        for image in images
    ]


def _absent(images: Sequence[BuiltImage], there: Sequence[LoadedImage]) -> list[BuiltImage]:
    known = {(oci.full_reference(image.reference), image.digest) for image in there}
    return [image for image in images if (oci.full_reference(image.reference), image.digest) not in known]


def _from_binary(home: Path, reference: str, path: str, binary: Path) -> BuiltImage:
    image = oci.single_binary_image(home / image_builds.ARCHIVE, reference, [path], {path: binary})
    image_builds.prune(home)
    return image
