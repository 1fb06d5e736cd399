"""What a step may not apply in somebody else's cluster: what is not the run's, or what nothing would remove."""

from collections.abc import Mapping
from typing import Any

from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.ownership import run_of
from k8s_e2e.scenarios.world import Context

_DEEP = 8  # owners of owners
_FORBIDDEN = (401, 403)


def refusal(obj: Mapping[str, Any], context: Context) -> str:
    """Return why the step must not apply ``obj``; nothing if it may.

    Raises:
        ApiError: the server does not know the kind, or what is there may not be read.
    """
    kube, name = context.kube, obj["metadata"]["name"]
    space = ""
    if kube.resource(obj["apiVersion"], obj["kind"]).namespaced:
        space = str(obj["metadata"].get("namespace") or context.namespace)
        if space != context.namespace:
            return f"it is for namespace {space}, and in somebody else's cluster a run has {context.namespace} only"
    live = kube.get(obj["apiVersion"], obj["kind"], name, space)
    if live is None:
        if obj["kind"] == "Namespace":
            return "a run makes no further namespace in somebody else's cluster: nothing would remove it"
        return ""
    if _is_of_run({"apiVersion": obj["apiVersion"], "kind": obj["kind"], **live}, space, context, _DEEP):
        return ""
    return "it is there already and not of this run: nothing was changed"


def _is_of_run(live: Mapping[str, Any], space: str, context: Context, deep: int) -> bool:
    """Whether the run applied an object, or one of its owners; in its namespace the profile's kinds are all its own."""
    customs = {(custom.group, custom.kind) for custom in context.profile.custom_resources}
    if run_of(live) == context.run_id or (
        space == context.namespace and (live["apiVersion"].partition("/")[0], live["kind"]) in customs
    ):
        return True
    if not deep:
        return False
    owners = (_owner(context.kube, reference, space) for reference in live["metadata"].get("ownerReferences") or ())
    return any(owner is not None and _is_of_run(*owner, context, deep - 1) for owner in owners)


def _owner(kube: Kube, reference: Mapping[str, Any], space: str) -> tuple[Mapping[str, Any], str] | None:
    """Return a live owner and its namespace; one that is gone, or may not be read, is nobody's."""
    api_version, kind = reference["apiVersion"], reference["kind"]
    try:
        where = space if kube.resource(api_version, kind).namespaced else ""
        live = kube.get(api_version, kind, reference["name"], where)
    except ApiError as error:
        if error.status in (*_FORBIDDEN, 404):
            return None
        raise
    if live is None or live["metadata"]["uid"] != reference["uid"]:
        return None
    return {"apiVersion": api_version, "kind": kind, **live}, where
