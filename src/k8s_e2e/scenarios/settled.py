"""Has an object come to rest: is its status of the current generation, and is its rollout finished.

"True once" accepts what is passing by: in mid-rollout a Deployment may show any number of available replicas. The
conditions are those of `kubectl rollout status`, and of the API conventions for ``observedGeneration``.
"""

from collections.abc import Mapping
from typing import Any

_APPS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")


def unsettled(obj: Mapping[str, Any]) -> str:
    """Return in a few words why ``obj`` has not come to rest; empty if it has, or if its kind has no such notion."""
    status = obj.get("status") or {}
    is_app = obj.get("kind") in _APPS and str(obj.get("apiVersion", "")).startswith("apps/")
    if not is_app and "observedGeneration" not in status:
        return ""
    generation, observed = obj["metadata"].get("generation", 0), status.get("observedGeneration", 0)
    if observed < generation:
        return f"its status is of generation {observed}, the object is at {generation}"
    return _rollout(obj, status) if is_app else ""


def _rollout(obj: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    spec = obj.get("spec") or {}
    if obj["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
        there = wanted
    else:
        wanted = spec.get("replicas", 1)
        updated = status.get("updatedReplicas", 0) if obj["kind"] != "ReplicaSet" else wanted
        available, there = status.get("availableReplicas", 0), status.get("replicas", 0)
    if updated < wanted:
        return f"rollout: {updated} of {wanted} replicas updated"
    if (old := there - wanted) > 0:
        return f"rollout: {old} old replica{'s are' if old > 1 else ' is'} still there"
    if available < wanted:
        return f"rollout: {available} of {wanted} replicas available"
    return ""
