"""The objects of a graph, as they are sent."""

from pathlib import Path
from typing import Any

import yaml
from specs import OPTIONS, OWNER, component, graph_of, spec

from turbo_operator.core import names
from turbo_operator.core.desired import Options, desired, key_of, object_keys, ports


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


def test_the_manifests_of_a_component_that_says_all_there_is_to_say() -> None:
    """The objects are those of manifests.yaml, to the last field, name and hash."""
    golden = yaml.safe_load(Path(__file__).with_name("manifests.yaml").read_text())
    assert list(desired(graph_of(golden["spec"]), OWNER, OPTIONS)) == golden["objects"]


def test_a_port_that_only_a_route_to_another_names_is_not_opened() -> None:
    """A component listens where routes lead to it, not where they lead to others."""
    routes = [{"path": "/", "targetComponent": "b", "targetPort": 99}]
    graph = graph_of(spec(component("a"), component("b"), ingress={"routes": routes}))
    assert [ports(graph, each) for each in graph.components] == [(8080,), (8080, 99)]


def test_pods_are_reached_at_their_own_port_by_its_name_and_at_a_routes_port_by_its_number() -> None:
    """A change of port leaves running pods reachable, and a port that a graph newly names needs no new pods."""
    routes = [{"path": "/", "targetComponent": "users", "targetPort": 65535}]
    graph = graph_of(spec(component(port=3000), ingress={"routes": routes}))
    _, service, deployment = desired(graph, OWNER, OPTIONS)
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http", 65535]
    opened = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert {port["name"]: port["containerPort"] for port in opened} == {"http": 3000, "http-65535": 65535}


def test_a_component_that_says_nothing_gets_nothing_more() -> None:
    """Without environment, resources, probes or kind the objects have no such keys, and port 8080 is the only one."""
    bare = {"packageName": "users", "packageVersion": "1", "artifactHash": "sha256:aa"}
    config_map, service, deployment = desired(graph_of(spec(bare)), OWNER, OPTIONS)
    assert config_map.keys() == {"apiVersion", "kind", "metadata"}
    assert names.LABEL_KIND not in config_map["metadata"]["labels"]
    assert [port["port"] for port in service["spec"]["ports"]] == [8080]
    assert deployment["spec"]["replicas"] == 1
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container.keys() == {"name", "image", "imagePullPolicy", "ports", "envFrom", "securityContext"}


def test_only_the_amounts_that_are_given_are_sent() -> None:
    """Requests without limits are requests alone."""
    value = spec(component(resources={"requests": {"cpu": "10m"}}))
    container = desired(graph_of(value), OWNER, OPTIONS)[2]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "10m"}}


def test_a_probe_goes_to_the_components_port_unless_it_names_one() -> None:
    """A probe path alone asks at the port where the component listens."""
    value = spec(component(port=81, annotations={names.ANNOTATION_PROBE_PATH: "/x"}))
    container = desired(graph_of(value), OWNER, OPTIONS)[2]["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/x", "port": 81, "scheme": "HTTP"}


def test_the_stub_image_runs_what_names_no_image() -> None:
    """STUB_IMAGE stands in for packages without an image, and for no others."""
    graph = graph_of(spec(component("a"), component("b", image="b:1")))
    deployments = desired(graph, OWNER, Options(stub_image="stub:1"))[4:]
    assert [d["spec"]["template"]["spec"]["containers"][0]["image"] for d in deployments] == ["stub:1", "b:1"]


def test_objects_stand_by_kind_then_by_name() -> None:
    """ConfigMaps come first, then Services, then Deployments, whatever the order of the names."""
    made = [key_of(obj) for obj in desired(graph_of(spec(component("b"), component("a"))), OWNER, OPTIONS)]
    assert made == [
        ("ConfigMap", "cm-a"),
        ("ConfigMap", "cm-b"),
        ("Service", "svc-a"),
        ("Service", "svc-b"),
        ("Deployment", "deploy-a"),
        ("Deployment", "deploy-b"),
    ]
    assert object_keys("a") == (("ConfigMap", "cm-a"), ("Service", "svc-a"), ("Deployment", "deploy-a"))
