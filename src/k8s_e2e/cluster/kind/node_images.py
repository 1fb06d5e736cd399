"""The images of kind's nodes, as `crictl` in each node lists them."""

from collections.abc import Sequence

import msgspec

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster.oci_archive import full_reference
from k8s_e2e.cluster.provider import LoadedImage

_LIST_S = 30.0


class _Image(msgspec.Struct):
    """One image of the CRI's list; ``id`` is its config digest, ``size`` a 64-bit number, so a string in its JSON."""

    id: str
    repo_tags: list[str] | None = msgspec.field(name="repoTags", default=None)
    size: str | int = 0


class _List(msgspec.Struct):
    images: list[_Image] | None = None


def images_of(nodes: Sequence[str]) -> list[LoadedImage]:
    """Return the images that every one of ``nodes`` has.

    Raises:
        EnvironmentFailure: a node cannot be asked, or answers something else.
    """
    return common([_listed(node) for node in nodes])


def common(lists: Sequence[Sequence[LoadedImage]]) -> list[LoadedImage]:
    """Return the images that are in all lists, by reference; the same reference with other content is another image."""
    if not lists:
        return []
    everywhere = set.intersection(*({(image.reference, image.digest) for image in images} for images in lists))
    there = {image.reference: image for image in lists[0] if (image.reference, image.digest) in everywhere}
    return [there[reference] for reference in sorted(there)]


def parsed(text: str) -> list[LoadedImage]:
    """Return what ``crictl images -o json`` printed, an image for each of its tags.

    Raises:
        msgspec.MsgspecError: it printed something else.
    """
    return [
        LoadedImage(reference=full_reference(tag), digest=image.id, bytes=int(image.size))
        for image in msgspec.json.decode(text, type=_List).images or ()
        for tag in image.repo_tags or ()
    ]


def _listed(node: str) -> list[LoadedImage]:
    said = process.run(["docker", "exec", node, "crictl", "images", "-o", "json"], timeout_s=_LIST_S).stdout
    try:
        return parsed(said)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EnvironmentFailure(f"crictl in node {node} does not list its images: {error}") from error
