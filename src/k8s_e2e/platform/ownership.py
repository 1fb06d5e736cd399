"""How objects that the kit applied are known again, by whoever removes them: one label, one annotation."""

from collections.abc import Iterable, Mapping
from typing import Any

LABEL, OURS = "app.kubernetes.io/managed-by", "k8s-e2e"
RUN_ANNOTATION = "k8s-e2e/run"
SELECTOR = f"{LABEL}={OURS}"

Object = dict[str, Any]


def marked(objects: Iterable[Object], run_id: str) -> list[Object]:
    """Return copies of ``objects`` that bear our label and the run; what they make (pods, say) does not."""
    return [_marked(obj, run_id) for obj in objects]


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether a live object bears our label."""
    return (obj["metadata"].get("labels") or {}).get(LABEL) == OURS


def run_of(obj: Mapping[str, Any]) -> str:
    """Return the run that a live object was applied by; nothing if it is not ours."""
    return str((obj["metadata"].get("annotations") or {}).get(RUN_ANNOTATION, "")) if is_ours(obj) else ""


def title(obj: Mapping[str, Any]) -> str:
    """Return ``Kind/name``."""
    return f"{obj['kind']}/{obj['metadata']['name']}"


def _marked(obj: Object, run_id: str) -> Object:
    metadata = dict(obj["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), LABEL: OURS}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), RUN_ANNOTATION: run_id}
    return {**obj, "metadata": metadata}
