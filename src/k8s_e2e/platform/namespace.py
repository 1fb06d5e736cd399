"""The namespace of a run: made fresh, ours, and never somebody else's."""

from contextlib import suppress
from typing import Any

from k8s_e2e.base.errors import EnvironmentFailure, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.platform import adoption
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.ownership import LABEL, OURS, RUN_ANNOTATION, is_ours, run_of

FIELD_MANAGER = "k8s-e2e-namespace"  # not the manifests' one: a Namespace in an overlay must not take our label off
_FORBIDDEN = (401, 403)
GONE_TIMEOUT_S = 120.0
ACCOUNT_TIMEOUT_S = 30.0
EMPTY_TIMEOUT_S = 5.0

_WORKLOADS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("apps/v1", "ReplicaSet"),
)


def belongs_to(kube: Kube, namespace: str, run_id: str) -> bool:
    """Say whether the namespace is there and was made, or adopted, for run ``run_id``, not for an earlier one."""
    return run_in(kube, namespace) == run_id


def run_in(kube: Kube, namespace: str) -> str:
    """Return the run that is, or left something, in a namespace; nothing if there is none, or none to be seen.

    Raises:
        ApiError: unanswered.
    """
    try:
        found = kube.get("v1", "Namespace", namespace)
    except ApiError as error:
        if error.status not in _FORBIDDEN:
            raise
    else:
        if found is None:
            return ""
        if is_ours(found):
            return run_of(found)
    sign = adoption.marker(kube, namespace)
    return run_of(sign) if sign else ""


def claim(kube: Kube, namespace: str, run_id: str, progress: Progress, *, timeout_s: float = GONE_TIMEOUT_S) -> None:
    """Make the namespace, fresh and with our label; return once pods can be made in it.

    One that is left over from an earlier run (it bears our label) is deleted first.

    Raises:
        EnvironmentFailure: it exists and is not ours, it does not go away, or the API server refuses.
    """
    try:
        _clear(kube, namespace, progress, timeout_s)
        progress(f"making namespace {namespace}")
        wanted = {"name": namespace, "labels": {LABEL: OURS}, "annotations": {RUN_ANNOTATION: run_id}}
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": wanted}, field_manager=FIELD_MANAGER)
        wait_for(
            f"the default ServiceAccount of namespace {namespace}",
            lambda: kube.get("v1", "ServiceAccount", "default", namespace) or Pending("not there"),
            timeout_s=ACCOUNT_TIMEOUT_S,
            interval_s=0.05,
        )
    except ApiError as error:
        message = f"cannot make namespace {namespace}: {error}"
        raise EnvironmentFailure(message) from error
    except WaitTimeout as error:
        raise EnvironmentFailure(error.message, hint=error.hint) from error


def _clear(kube: Kube, namespace: str, progress: Progress, timeout_s: float) -> None:
    found = kube.get("v1", "Namespace", namespace)
    if found is None:
        return
    if "deletionTimestamp" not in found["metadata"]:
        if not is_ours(found):
            message = f"namespace {namespace} is there already and is not ours (no label {LABEL}={OURS})"
            hint = f"`kubectl delete namespace {namespace}` if nobody needs it, or name another one in k8s-e2e.toml"
            raise EnvironmentFailure(message, hint=hint)
        progress(f"namespace {namespace} is left over from run {run_of(found) or 'unknown'}: deleting it")
    else:
        progress(f"namespace {namespace} is being deleted: waiting until it is gone")
    delete(kube, found, progress, timeout_s)


def delete(kube: Kube, found: dict[str, Any], progress: Progress, timeout_s: float = GONE_TIMEOUT_S) -> None:
    """Delete a namespace, its pods at once, and wait until it is gone; one that is going is waited for.

    Raises:
        EnvironmentFailure: it does not go away, and what holds it.
        ApiError: refused or unanswered.
    """
    namespace, uid = found["metadata"]["name"], found["metadata"]["uid"]
    if "deletionTimestamp" not in found["metadata"]:
        empty(kube, namespace)
        kube.delete("v1", "Namespace", namespace, uid=uid)

    def probe() -> Pending | bool:
        live = kube.get("v1", "Namespace", namespace)
        return live is None or live["metadata"]["uid"] != uid or Pending(_remaining(live))

    hint = f"`kubectl describe namespace {namespace}` shows what holds it"
    try:
        wait_for(f"namespace {namespace} to be gone", probe, timeout_s=timeout_s, on_state=progress)
    except WaitTimeout as error:
        raise EnvironmentFailure(error.message, hint=hint) from error


def empty(kube: Kube, namespace: str) -> None:
    """End workloads and pods at once: what the namespace controller would do, too, but with their grace periods.

    It waits 5 s before it looks, and again for half of the longest grace period if a pod is left then: 5 s, not 10.

    Raises:
        ApiError: refused or unanswered.
    """
    for api_version, kind in _WORKLOADS:
        _delete_all(kube, api_version, kind, namespace, {"propagationPolicy": "Background"})
    _delete_all(kube, "v1", "Pod", namespace, {"gracePeriodSeconds": 0})

    def probe() -> Pending | bool:
        left = len(kube.list("v1", "Pod", namespace)["items"])
        return not left or Pending(f"{left} pods left")

    with suppress(WaitTimeout):  # the namespace controller finishes what is left
        wait_for(f"the pods of namespace {namespace} to be gone", probe, timeout_s=EMPTY_TIMEOUT_S)


def _delete_all(kube: Kube, api_version: str, kind: str, namespace: str, options: dict[str, Any]) -> None:
    body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
    kube.request("DELETE", kube.resource(api_version, kind).path(namespace), body=body)


def _remaining(namespace: dict[str, Any]) -> str:
    """Say what a namespace's own conditions name as remaining."""
    conditions = namespace.get("status", {}).get("conditions", ())
    told = [cond["message"] for cond in conditions if cond["status"] == "True" and cond["type"].startswith("Namespace")]
    return f"namespace {namespace['metadata']['name']}: {'; '.join(told) or 'being deleted'}"
