"""The objects of a graph, as they are sent."""

import copy
from typing import Any

import pytest
from specs import OPTIONS, OWNER, component, graph_of, spec

from turbo_operator.core import names
from turbo_operator.core.desired import Options, desired, key_of
from turbo_operator.core.gateway_config import gateway_config

_VISIBLE = [
    ("buildId", lambda s: s.update(buildId="other")),
    ("rootPackage", lambda s: s.update(rootPackage="other")),
    ("packageVersion", lambda s: s["components"][0].update(packageVersion="9")),
    ("kind", lambda s: s["components"][0].update(kind="web-ui")),
    ("artifactHash", lambda s: s["components"][0].update(artifactHash="sha256:other")),
    ("image", lambda s: s["components"][0]["runtime"].update(image="other:1")),
    ("replicas", lambda s: s["components"][0]["runtime"].update(replicas=7)),
    ("port", lambda s: s["components"][0]["runtime"].update(port=7)),
    ("env", lambda s: s["components"][0]["runtime"].update(env={"K": "v"})),
    ("resources", lambda s: s["components"][0]["runtime"].update(resources={"requests": {"cpu": "7m"}})),
    ("limits", lambda s: s["components"][0]["runtime"].update(resources={"limits": {"cpu": "7m"}})),
    ("annotations", lambda s: s["components"][0]["runtime"].update(annotations={"note": "x"})),
    ("probe", lambda s: s["components"][0]["runtime"].update(annotations={names.ANNOTATION_PROBE_PATH: "/x"})),
    ("host", lambda s: s["ingress"].update(host="other.example.com")),
    ("path", lambda s: s["ingress"]["routes"][0].update(path="/other")),
    ("targetComponent", lambda s: s["ingress"]["routes"][0].update(targetComponent="products")),
    ("targetPort", lambda s: s["ingress"]["routes"][0].update(targetPort=7)),
]


@pytest.mark.parametrize(("field", "change"), _VISIBLE, ids=[name for name, _ in _VISIBLE])
def test_r10_every_field_has_an_effect(field: str, change: Any) -> None:
    """Changing any field of the spec changes an object, the gateway's routes or the status."""

    def effect(value: dict[str, Any]) -> Any:
        graph = graph_of(value)
        # host, buildId and rootPackage are shown by the status, which copies them from the graph.
        shown = (graph.host, graph.build_id, graph.root_package)
        return desired(graph, OWNER, OPTIONS), gateway_config([("", graph)]), shown

    value = spec(
        component("users", replicas=1),
        component("products"),
        ingress={"host": "a.example.com", "routes": [{"path": "/users", "targetComponent": "users"}]},
    )
    changed = copy.deepcopy(value)
    change(changed)
    assert effect(value) != effect(changed), field


def test_r18_the_config_hash_changes_with_the_configuration_only() -> None:
    """Another environment variable rolls the pods; another artifact, build or replica count does not."""

    def template(value: dict[str, Any]) -> Any:
        return desired(graph_of(value), OWNER, OPTIONS)[2]["spec"]["template"]

    base = template(spec(component(env={"A": "1"})))
    assert template(spec(component(env={"A": "2"}))) != base
    assert template(spec(component(version="2.0.0", env={"A": "1"}, replicas=3), build="build-2")) == base


def test_telemetry_goes_where_the_operators_own_goes_unless_the_package_says() -> None:
    """Components are handed the collector's address and their name; a package's own setting wins."""
    options = Options(otlp_endpoint="http://collector:4318")
    graph = graph_of(spec(component("a"), component("b", env={"OTEL_SERVICE_NAME": "mine"})))
    maps: dict[str, Any] = {
        key_of(obj)[1]: obj.get("data") for obj in desired(graph, OWNER, options) if obj["kind"] == "ConfigMap"
    }
    assert maps["cm-a"] == {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SERVICE_NAME": "a"}
    assert maps["cm-b"]["OTEL_SERVICE_NAME"] == "mine"


def test_pods_are_locked_down() -> None:
    """No service account token, no privileges, no capabilities, the default seccomp profile."""
    pod = desired(graph_of(spec(component())), OWNER, OPTIONS)[2]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["containers"][0]["image"] == "registry.k8s.io/pause:3.9"
