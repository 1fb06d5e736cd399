"""Graph -> the ConfigMap, Service and Deployment of each component, exactly as they are sent to the API server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.canonical import digest
from turbo_operator.core.graph import Component, Graph

DEFAULT_IMAGE = "registry.k8s.io/pause:3.9"
_OWN_PORT = "http"
"""Name of the port a component listens on, in its Service and in its pods."""
_PROGRESS_DEADLINE_S = 120
"""After that long without progress the Deployment itself says so, and the component's status with it."""

Object = dict[str, Any]
ObjectKey = tuple[str, str]
"""(kind, name): all objects live in the one namespace the operator serves."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The APIGraph object that owns the children."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator itself adds: the image of packages without one, and where telemetry goes."""

    stub_image: str = DEFAULT_IMAGE
    otlp_endpoint: str | None = None


def key_of(obj: Mapping[str, Any]) -> ObjectKey:
    """(kind, name) of an object."""
    return obj["kind"], obj["metadata"]["name"]


def sort_key(key: ObjectKey) -> tuple[int, str]:
    """ConfigMaps before Services before Deployments, by name within a kind."""
    return names.KIND_ORDER[key[0]], key[1]


def object_keys(component: str) -> tuple[ObjectKey, ...]:
    """The objects of a component, by its sanitised name, in the order they are made."""
    return tuple((kind, names.PREFIXES[kind] + component) for kind in names.KIND_ORDER)


def config_data(component: Component, options: Options) -> dict[str, str]:
    """Environment of a component: what the package declares, over the operator's telemetry defaults."""
    data: dict[str, str] = {}
    if options.otlp_endpoint:
        data["OTEL_EXPORTER_OTLP_ENDPOINT"] = options.otlp_endpoint
        data["OTEL_SERVICE_NAME"] = component.name
    data.update(component.env)
    return dict(sorted(data.items()))


def ports(graph: Graph, component: Component) -> tuple[int, ...]:
    """Ports a component listens on: its own first, then those that only routes name, ascending."""
    routed = {r.port for r in graph.routes if r.target == component.package_name and r.port is not None}
    return (component.port, *sorted(routed - {component.port}))


def desired(graph: Graph, owner: Owner, options: Options) -> tuple[Object, ...]:
    """Every object the graph asks for, ConfigMaps first, then Services, then Deployments, by name."""
    objects = [obj for component in graph.components for obj in _objects(graph, component, owner, options)]
    return tuple(sorted(objects, key=lambda obj: sort_key(key_of(obj))))


def _objects(graph: Graph, component: Component, owner: Owner, options: Options) -> tuple[Object, Object, Object]:
    data = config_data(component, options)
    listening = ports(graph, component)
    selector = {names.LABEL_ENVIRONMENT: graph.name, names.LABEL_COMPONENT: component.name}
    labels = {
        **selector,
        names.LABEL_MANAGED_BY: names.MANAGER,
        names.LABEL_NAME: component.name,
        names.LABEL_INSTANCE: graph.name,
    }

    def metadata(kind: str, annotations: dict[str, str] | None = None) -> Object:
        own = {names.LABEL_KIND: component.kind} if component.kind else {}
        return {
            "name": names.PREFIXES[kind] + component.name,
            "labels": {**labels, **own},
            "annotations": {names.ANNOTATION_PACKAGE_NAME: component.package_name, **(annotations or {})},
            "ownerReferences": [
                {
                    "apiVersion": names.GRAPH_API_VERSION,
                    "kind": names.GRAPH_KIND,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                }
            ],
        }

    config_map: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("ConfigMap")}
    if data:
        config_map["data"] = data
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("Service"),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [
                {
                    "name": _port_name(listening, port),
                    "port": port,
                    # Its own port by name: while pods of an earlier port run on, each is reached at the one it has.
                    # A route's port is a number that the graph gives, and open in those pods, too, if anywhere.
                    "targetPort": _OWN_PORT if port == listening[0] else port,
                    "protocol": "TCP",
                }
                for port in listening
            ],
        },
    }
    about = {
        names.ANNOTATION_ARTIFACT_HASH: component.artifact_hash,
        names.ANNOTATION_PACKAGE_VERSION: component.package_version,
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata("Deployment", about),
        "spec": {
            "replicas": component.replicas,
            "progressDeadlineSeconds": _PROGRESS_DEADLINE_S,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {**component.annotations, names.ANNOTATION_CONFIG_HASH: digest(data)},
                },
                "spec": _pod_spec(component, listening, options),
            },
        },
    }
    return config_map, service, deployment


def _pod_spec(component: Component, listening: tuple[int, ...], options: Options) -> Object:
    container: Object = {
        "name": component.name,
        "image": component.image or options.stub_image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [
            {"name": _port_name(listening, port), "containerPort": port, "protocol": "TCP"} for port in listening
        ],
        "envFrom": [{"configMapRef": {"name": names.PREFIXES["ConfigMap"] + component.name}}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    resources = {
        part: dict(amounts)
        for part, amounts in (("requests", component.requests), ("limits", component.limits))
        if amounts
    }
    if resources:
        container["resources"] = resources
    if component.probe_path is not None:
        request = {"path": component.probe_path, "port": component.probe_port or listening[0], "scheme": "HTTP"}
        container["readinessProbe"] = {"httpGet": request, "periodSeconds": 2, "timeoutSeconds": 2}
        # Slow starts and short outages are for readiness to tell; a restart only helps a process that hangs.
        container["livenessProbe"] = {
            "httpGet": request,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        }
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }


def _port_name(listening: tuple[int, ...], port: int) -> str:
    return _OWN_PORT if port == listening[0] else f"http-{port}"
