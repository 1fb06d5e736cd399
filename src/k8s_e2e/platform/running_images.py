"""Which images pods run, in their own words."""

from collections.abc import Iterable, Mapping
from typing import Any

from k8s_e2e.model.run import ImageRecord


def running_images(pods: Iterable[Mapping[str, Any]]) -> list[ImageRecord]:
    """Return every image that a container of ``pods`` has: its reference, and the digest that was pulled."""
    found: dict[tuple[str, str], ImageRecord] = {}
    for pod in pods:
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        declared = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        asked = {container["name"]: container["image"] for container in declared}
        for state in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
            if identity := state.get("imageID"):
                digest = identity.rpartition("@")[2]
                reference = asked.get(state["name"], state.get("image", ""))
                found[reference, digest] = ImageRecord(reference=reference, digest=digest, source="pulled")
    return [found[key] for key in sorted(found)]
