"""What the recorder watches: the kinds that explain a run."""

from k8s_e2e.platform.kube import Resource

EVENTS = ("v1", "Event")
SECRETS = ("v1", "Secret")
PODS = ("v1", "Pod")
NAMESPACE = ("v1", "Namespace")
NODES = ("v1", "Node")

KINDS: tuple[tuple[str, str], ...] = (
    PODS,
    EVENTS,
    SECRETS,
    NAMESPACE,
    NODES,
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ResourceQuota"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
)


def scope(resource: Resource, namespace: str) -> tuple[str, str]:
    """Return the namespace and the object name that a watch of ``resource`` is narrowed to (empty: no narrowing)."""
    if (resource.api_version, resource.kind) == NAMESPACE:
        return "", namespace
    return (namespace if resource.namespaced else ""), ""
