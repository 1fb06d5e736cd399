"""Which images the pods of a namespace run, in their own words."""

from k8s_e2e.model.run import ImageRecord
from k8s_e2e.platform.kube import Kube


def running_images(kube: Kube, namespace: str) -> list[ImageRecord]:
    """Return every image that a container of the namespace has: its reference, and the digest that was pulled.

    Raises:
        ApiError: refused or unanswered.
    """
    found: dict[tuple[str, str], ImageRecord] = {}
    for pod in kube.list("v1", "Pod", namespace)["items"]:
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        asked = {one["name"]: one["image"] for one in [*(spec.get("initContainers") or ()), *spec["containers"]]}
        for state in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
            if identity := state.get("imageID"):
                digest = identity.rpartition("@")[2]
                reference = asked.get(state["name"], state.get("image", ""))
                found[reference, digest] = ImageRecord(reference=reference, digest=digest, source="pulled")
    return [found[key] for key in sorted(found)]
