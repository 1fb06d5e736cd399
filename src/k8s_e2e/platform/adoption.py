"""Running in a namespace that somebody else made: only if it is empty of all that a run would bring.

The namespace itself is left as it is. A ConfigMap says whose run is in it, and is the last thing
of the run to go, after all that the run has made in the cluster; it stays while something of that does.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress
from k8s_e2e.model.profile import CustomResource
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.ownership import is_ours, marked, run_of, title

MARKER = "k8s-e2e-run"
_WORKLOADS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("apps/v1", "ReplicaSet"),
    ("v1", "Pod"),
)
_MAY_BE_HIDDEN = [kind for kind in _WORKLOADS if kind[1] not in ("Deployment", "Pod")]
_CONFLICT = 409
_NOT_FOUND = 404
_FORBIDDEN = (401, 403)
_TOLD = 10

Object = dict[str, Any]


def marker(kube: Kube, namespace: str) -> Object | None:
    """Return the ConfigMap that says whose run is in an adopted namespace; None if there is none, or none to be read.

    Raises:
        ApiError: the API server does not answer.
    """
    try:
        return kube.get("v1", "ConfigMap", MARKER, namespace)
    except ApiError as error:
        if error.status in _FORBIDDEN:
            return None
        raise


def adopt(
    kube: Kube,
    namespace: str,
    run_id: str,
    objects: Iterable[Object],
    custom_resources: Iterable[CustomResource],
    progress: Progress,
) -> None:
    """Take a namespace that is there for run ``run_id``, until `removal` has taken all of it out again.

    Raises:
        EnvironmentFailure: something is in it that a run would change or be disturbed by (what), or another run.
    """
    try:
        refuse_inhabited(kube, namespace, objects, custom_resources)
        sign = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": MARKER, "namespace": namespace},
            "data": {"about": "A run of k8s-e2e uses this namespace, and removes this when it has removed the rest."},
        }
        path = kube.resource("v1", "ConfigMap").path(namespace)
        kube.request("POST", path, body=marked([sign], run_id)[0])
    except ApiError as error:
        if error.status == _CONFLICT:
            other = run_of(marker(kube, namespace) or sign)
            message = f"another run has just begun in namespace {namespace}: {other}"
            raise EnvironmentFailure(message, hint="wait until it is over") from error
        message = f"cannot use namespace {namespace}: {error}"
        raise EnvironmentFailure(message) from error
    progress(f"namespace {namespace} is there and empty: it is used, and stays")


def refuse_inhabited(
    kube: Kube, namespace: str, objects: Iterable[Object], custom_resources: Iterable[CustomResource]
) -> None:
    """Refuse a namespace in which something is that a run would change or be disturbed by.

    Raises:
        EnvironmentFailure: what is in it.
        ApiError: as `inhabitants`.
    """
    if found := inhabitants(kube, namespace, objects, custom_resources):
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        message = f"namespace {namespace} is not ours and not empty: {', '.join(found[:_TOLD])}{more}"
        hint = "give the run a namespace of its own in k8s-e2e.toml and its overlay, or empty this one"
        raise EnvironmentFailure(message, hint=hint)


def inhabitants(
    kube: Kube, namespace: str, objects: Iterable[Object], custom_resources: Iterable[CustomResource]
) -> list[str]:
    """Return, as Kind/name, workloads, custom resources, and objects that would be applied.

    Workloads that may not be listed are passed over: what they run shows as pods.

    Raises:
        ApiError: pods or custom resources may not be listed, an object may not be read, or nothing answers.
    """
    found: dict[str, None] = {}
    custom_kinds = [(custom.api_version, custom.kind) for custom in custom_resources]
    for api_version, kind in (*_WORKLOADS, *custom_kinds):
        try:
            items = kube.list(api_version, kind, namespace)["items"]
        except ApiError as error:
            forbidden = error.status in _FORBIDDEN and (api_version, kind) in _MAY_BE_HIDDEN
            if error.status == _NOT_FOUND or forbidden:
                continue
            raise
        found |= dict.fromkeys(title(item) for item in items)
    return [*found, *(title(obj) for obj in _there(kube, namespace, objects))]


def refuse_occupied(kube: Kube, namespace: str, objects: Iterable[Object]) -> None:
    """Refuse to apply what somebody else has made outside of ``namespace``: cluster-wide, or in another namespace.

    Raises:
        EnvironmentFailure: such an object is there (which).
        ApiError: refused or unanswered.
    """
    outside = [obj for obj in objects if obj["metadata"].get("namespace") != namespace]
    if found := [title(obj) for obj in _there(kube, namespace, outside) if not is_ours(obj)]:
        message = f"the cluster has objects that the overlay would change and that are not ours: {', '.join(found)}"
        raise EnvironmentFailure(message, hint="give those of the overlay other names")


def _there(kube: Kube, namespace: str, objects: Iterable[Object]) -> Iterator[Object]:
    """Yield the live ones of ``objects``; namespaces and CRDs are looked at elsewhere."""
    for obj in objects:
        if obj["kind"] not in ("Namespace", "CustomResourceDefinition"):
            space = str(obj["metadata"].get("namespace") or namespace)
            if live := kube.get(obj["apiVersion"], obj["kind"], obj["metadata"]["name"], space):
                yield {**live, "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
