"""The pure core: what is wanted, what differs, what is written."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import COMPONENTS, JSON, OPTIONS, OWNER, component, contents, converge, graph_of, spec, valid_specs

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import Options, Owner, desired, key_of
from turbo_operator.core.fields import applied_fields, differences, slim
from turbo_operator.core.gateway_config import gateway_config
from turbo_operator.core.graph import Graph, Refusal
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import encode, plan
from turbo_operator.core.quantity import parse_quantity, same_quantity


@given(valid_specs())
def test_r01_second_reconcile_makes_no_write(value: dict[str, Any]) -> None:
    """Once the objects are as the spec asks, planning again plans nothing."""
    applier = NoopApplier()
    converge(applier, value)
    assert converge(applier, value) == ()


@given(valid_specs(), valid_specs())
def test_r09_r11_what_the_spec_no_longer_says_is_gone(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Whatever stood before, the end state is that of a fresh start; removed keys, labels, routes and components go."""
    applier, fresh = NoopApplier(), NoopApplier()
    converge(applier, before)
    converge(applier, after)
    converge(fresh, after)
    assert contents(applier) == contents(fresh)


@given(valid_specs(), valid_specs())
def test_r11_there_and_back_is_where_it_was(first: dict[str, Any], second: dict[str, Any]) -> None:
    """A -> B -> A leaves what A left."""
    applier, fresh = NoopApplier(), NoopApplier()
    converge(fresh, first)
    for value in (first, second, first):
        converge(applier, value)
    assert contents(applier) == contents(fresh)


@given(valid_specs(), st.randoms(use_true_random=False))
def test_r25_equal_input_gives_equal_bytes(value: dict[str, Any], random: Any) -> None:
    """Neither the order of lists nor that of keys changes a plan."""
    shuffled = _shuffled(value, random)
    plans = []
    for each in (value, shuffled):
        graph = graph_of(each)
        plans.append(encode(plan(graph, desired(graph, OWNER, OPTIONS), {}, OWNER)))
    assert plans[0] == plans[1]
    assert json.loads(plans[0]) is not None


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(k, _shuffled(v, random)) for k, v in value.items()]
        random.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        items = [_shuffled(v, random) for v in value]
        random.shuffle(items)
        return items
    return value


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


@given(JSON)
def test_r10_anything_is_answered_with_a_graph_or_reasons(value: Any) -> None:
    """No JSON value crashes the check of a spec; what is refused is refused with a sentence."""
    result = normalize(value)
    assert isinstance(result, Graph) or result.problems


@given(st.lists(COMPONENTS, max_size=3), st.lists(JSON, max_size=3), st.data())
def test_r12_arbitrary_components_never_crash(good: list[Any], odd: list[Any], data: st.DataObject) -> None:
    """Components of any JSON shape leave every good one of another name usable, or refuse the frame with a reason."""
    entries = [
        {"packageName": f"odd-{i}", **(entry if isinstance(entry, dict) else {"runtime": entry})}
        for i, entry in enumerate(odd)
    ]
    unique = {c["packageName"]: c for c in good}
    graph = graph_of(spec(*data.draw(st.permutations([*unique.values(), *entries]))))
    assert set(unique) <= {c.package_name for c in graph.components}
    desired(graph, OWNER, OPTIONS)


_BAD = [
    (component("BAD NAME"), "packageName"),
    (component(replicas=-1), "runtime.replicas"),
    (component(replicas=True), "runtime.replicas"),
    (component(port=0), "runtime.port"),
    (component(env={"A B": "x"}), "runtime.env[A B]"),
    (component(env={"A": 1}), "runtime.env[A]"),
    (component(image="a b"), "runtime.image"),
    (component(resources={"requests": {"cpu": "lots"}}), "runtime.resources.requests[cpu]"),
    (component(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}), "more than the limit"),
    (component(resources={"requests": {"gpu": "1"}}), "unknown resource"),
    (component(annotations={"turboengine.io/x": "y"}), "is reserved"),
    (component(annotations={"container.apparmor.security.beta.kubernetes.io/x": "unconfined"}), "for Kubernetes"),
    (component(annotations={names.ANNOTATION_PROBE_PATH: "no-slash"}), "not a URL path"),
    (component(annotations={names.ANNOTATION_PROBE_PORT: "80"}), "without a probe path"),
    (component(colour="red"), "runtime.colour: unknown field"),
    ({**component(), "packageVersion": ""}, "packageVersion: is required"),
    ({**component(), "kind": "no spaces please"}, "kind"),
]


@pytest.mark.parametrize(("bad", "reason"), _BAD, ids=[reason for _, reason in _BAD])
def test_r12_an_invalid_component_is_refused_and_the_others_proceed(bad: dict[str, Any], reason: str) -> None:
    """One unusable component is named with its reason; the rest is applied, and what it had before is left alone."""
    applier = NoopApplier()
    package = bad["packageName"]
    converge(applier, spec(component(package.lower().replace(" ", "-")), component("other")))
    before = {key: obj for key, obj in applier.objects.items() if "other" not in key[1]}
    actions = converge(applier, spec(bad, component("other", version="2.0.0")))
    refused = [a for a in actions if a.verb == "Refuse"]
    assert [(a.name, reason in a.reason) for a in refused] == [(package, True)]
    assert applier.objects["Deployment", "deploy-other"]["metadata"]["annotations"][
        names.ANNOTATION_PACKAGE_VERSION
    ] == ("2.0.0")
    if package == "users":
        assert {key: applier.objects.get(key) for key in before} == before


def test_r12_two_components_of_one_name_are_both_refused() -> None:
    """Neither of two components with the same name is guessed to be the right one."""
    graph = graph_of(spec(component("users", "1.0.0"), component("users", "2.0.0"), component("other")))
    assert [c.package_name for c in graph.components] == ["other"]
    assert [r.package_name for r in graph.refused] == ["users"]
    assert "2 times" in graph.refused[0].message


def test_r12_a_bad_route_is_refused_alone() -> None:
    """A route to nowhere, an ambiguous one and a relative one are named; the good one stays."""
    routes = [
        {"path": "/good", "targetComponent": "users"},
        {"path": "/nowhere", "targetComponent": "nobody"},
        {"path": "/twice", "targetComponent": "users"},
        {"path": "/twice/", "targetComponent": "users", "targetPort": 99},
        {"path": "/a/../b", "targetComponent": "users"},
    ]
    graph = graph_of(spec(component(), ingress={"host": "Bad Host", "routes": routes}))
    assert [r.path for r in graph.routes] == ["/good"]
    assert len(graph.problems) == 4
    assert graph.host is None


@pytest.mark.parametrize("broken", ["environmentId", "buildId", "rootPackage", "components"])
def test_a_spec_without_its_frame_is_refused_whole(broken: str) -> None:
    """A graph that lacks a required field is refused, and the field is named."""
    value = spec(component())
    del value[broken]
    result = normalize(value)
    assert isinstance(result, Refusal)
    assert any(broken in problem for problem in result.problems)


def test_r13_an_immutable_field_is_changed_by_replacement() -> None:
    """A Deployment with another selector and a frozen ConfigMap are deleted by uid, then made anew."""
    applier = NoopApplier()
    value = spec(component(env={"A": "1"}))
    converge(applier, value)
    applier.objects["Deployment", "deploy-users"]["spec"]["selector"]["matchLabels"]["extra"] = "x"
    applier.objects["ConfigMap", "cm-users"]["immutable"] = True
    value["components"][0]["runtime"]["env"]["A"] = "2"
    first = converge(applier, value)
    assert [(a.verb, a.kind) for a in first] == [("Delete", "Deployment"), ("Delete", "ConfigMap")]
    assert all(a.uid and a.reason.startswith("replaced") for a in first)
    assert [(a.verb, a.kind) for a in converge(applier, value)] == [("Create", "ConfigMap"), ("Create", "Deployment")]
    assert converge(applier, value) == ()


def test_r14_foreign_objects_are_conflicts_and_stay_untouched() -> None:
    """Same-named objects without our labels, of another environment, or of another controller are never written."""
    foreign = {
        ("ConfigMap", "cm-users"): {"name": "cm-users", "uid": "f1"},
        ("Service", "svc-users"): {
            "name": "svc-users",
            "uid": "f2",
            "labels": {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_ENVIRONMENT: "env-2"},
        },
        ("Deployment", "deploy-users"): {
            "name": "deploy-users",
            "uid": "f3",
            "labels": {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_ENVIRONMENT: "env-1"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "boss", "uid": "u", "controller": True},
            ],
        },
    }
    observed = {key: {"kind": key[0], "metadata": metadata} for key, metadata in foreign.items()}
    graph = graph_of(spec(component()))
    actions = plan(graph, desired(graph, OWNER, OPTIONS), observed, OWNER)
    assert [a.verb for a in actions] == ["Conflict"] * 3
    assert "environment env-2" in actions[1].reason
    assert "Other boss" in actions[2].reason
    empty = graph_of(spec())
    assert plan(empty, desired(empty, OWNER, OPTIONS), observed, OWNER) == ()


def test_r14_a_component_is_made_whole_or_not_at_all() -> None:
    """If one of its names is taken, none of its objects is created; what the graph has of it is kept up."""
    foreign = {"kind": "Service", "metadata": {"name": "svc-users", "uid": "f"}}
    applier = NoopApplier()
    applier.objects["Service", "svc-users"] = foreign
    value = spec(component(env={"A": "1"}), component("other"))
    assert {(a.verb, a.name) for a in converge(applier, value)} == {
        ("Conflict", "svc-users"),
        *(("Create", f"{prefix}other") for prefix in names.PREFIXES.values()),
    }
    del applier.objects["Service", "svc-users"]
    converge(applier, value)
    applier.objects["Service", "svc-users"] = foreign
    changed = converge(applier, spec(component(env={"A": "2"}), component("other")))
    assert [(a.verb, a.name) for a in changed] == [
        ("Update", "cm-users"),
        ("Conflict", "svc-users"),
        ("Update", "deploy-users"),
    ]


@given(valid_specs(), valid_specs("env-2"))
def test_r14_environments_never_touch_each_other(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Of two environments that want the same names the first keeps them, and pruning one leaves the other whole."""
    applier, other = NoopApplier(), Owner("env-2", "uid-2")
    converge(applier, one)
    alone = contents(applier)
    converge(applier, two, other)
    assert {key: value for key, value in contents(applier).items() if key in alone} == alone
    converge(applier, spec(environment="env-2"), other)
    assert contents(applier) == alone


def test_objects_of_an_earlier_graph_of_the_same_name_are_adopted() -> None:
    """A graph that was deleted and made anew takes over its children instead of fighting garbage collection."""
    applier = NoopApplier()
    converge(applier, spec(component()))
    actions = converge(applier, spec(component()), Owner("env-1", "uid-new"))
    assert {(a.verb, a.reason) for a in actions} == {("Update", "adopted from an earlier graph")}
    assert converge(applier, spec(component()), Owner("env-1", "uid-new")) == ()


def test_plan_order_is_configmaps_services_deployments_and_deletes_reversed() -> None:
    """A ConfigMap is planned before the Deployment that reads it, and deleted after it."""
    applier = NoopApplier()
    made = converge(applier, spec(component("a"), component("b")))
    assert [a.kind for a in made] == ["ConfigMap"] * 2 + ["Service"] * 2 + ["Deployment"] * 2
    gone = converge(applier, spec(component("a")))
    assert [(a.verb, a.kind) for a in gone] == [
        ("Delete", "Deployment"),
        ("Delete", "Service"),
        ("Delete", "ConfigMap"),
    ]


def test_r18_the_config_hash_changes_with_the_configuration_only() -> None:
    """Another environment variable rolls the pods; another artifact, build or replica count does not."""

    def template(value: dict[str, Any]) -> Any:
        return desired(graph_of(value), OWNER, OPTIONS)[2]["spec"]["template"]

    base = template(spec(component(env={"A": "1"})))
    assert template(spec(component(env={"A": "2"}))) != base
    assert template(spec(component(version="2.0.0", env={"A": "1"}, replicas=3), build="build-2")) == base


def test_r19_a_field_edited_by_hand_is_found_and_foreign_fields_are_left_alone() -> None:
    """A changed image is one changed field; an annotation of somebody else is none."""
    applier = NoopApplier()
    value = spec(component(env={"A": "1"}))
    converge(applier, value)
    deployment = applier.objects["Deployment", "deploy-users"]
    deployment["metadata"]["annotations"]["someone.example/note"] = "mine"
    assert converge(applier, value) == ()
    deployment["spec"]["replicas"] = 5
    actions = converge(applier, value)
    assert [(a.verb, a.fields) for a in actions] == [("Update", ("spec.replicas",))]


def _server_object(wanted: dict[str, Any]) -> dict[str, Any]:
    """A Deployment as the API server returns it: defaults filled in, quantities respelled, lists keyed."""
    obj = copy.deepcopy(wanted)
    template = obj["spec"]["template"]["spec"]
    template["dnsPolicy"] = "ClusterFirst"
    container = template["containers"][0]
    container["resources"]["limits"]["cpu"] = "500m"
    container["terminationMessagePath"] = "/dev/termination-log"
    template["containers"].append({"name": "injected", "image": "sidecar"})
    fields = applied_fields(wanted)
    del fields["f:metadata"]["f:name"], fields["f:apiVersion"], fields["f:kind"]
    leaf: dict[str, Any] = {}
    owner = {f'k:{{"uid":"{OWNER.uid}"}}': leaf}
    fields["f:metadata"]["f:ownerReferences"] = owner
    inner = applied_fields(wanted["spec"]["template"]["spec"]["containers"][0])
    inner["f:ports"] = {
        'k:{"containerPort":8080,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}
    }
    fields["f:spec"]["f:template"]["f:spec"]["f:containers"] = {'k:{"name":"users"}': {".": {}, **inner}}
    obj["metadata"] |= {
        "uid": "d1",
        "managedFields": [
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {}},
            {"manager": names.MANAGER, "operation": "Apply", "fieldsV1": fields},
        ],
    }
    return obj


def test_differences_reads_the_servers_form() -> None:
    """Defaults, respelled quantities and injected containers are no difference; lost ownership and old fields are."""
    wanted = desired(graph_of(spec(component(resources={"limits": {"cpu": "0.5"}}))), OWNER, OPTIONS)[2]
    obj = _server_object(wanted)
    assert differences(wanted, slim(obj)) == ()
    ours = obj["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]
    ours["f:template"]["f:spec"]["f:nodeName"] = {}
    del ours["f:replicas"]
    assert differences(wanted, slim(obj)) == ("spec.replicas", "spec.template.spec.nodeName")
    obj["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"
    obj["spec"]["template"]["spec"]["containers"][0]["ports"] = []
    found = differences(wanted, slim(obj))
    assert "spec.template.spec.containers[users].image" in found
    assert any(path.startswith("spec.template.spec.containers[users].ports[") for path in found)


def test_names_stay_when_valid_and_are_hashed_when_not() -> None:
    """A DNS label is kept; anything else becomes one that names only itself."""
    assert names.component_name("users-service") == "users-service"
    assert names.component_name("@acme/users").startswith("acme-users-")
    assert names.component_name("@acme/users") != names.component_name("acme-users")
    assert len("deploy-" + names.component_name("x" * 200)) <= 63


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_names_are_labels_and_distinct(one: str, two: str) -> None:
    """Every name is a DNS label, and two raw names never share one."""
    left, right = names.graph_name(one), names.graph_name(two)
    assert names.object_name(left) == left
    assert len(left) <= 63
    assert (left == right) == (one == two) or left in {one, two}


def test_quantities_compare_by_value() -> None:
    """0.5 is 500m and 1Gi is 1024Mi; a word is refused."""
    assert same_quantity("0.5", "500m")
    assert same_quantity("1Gi", "1024Mi")
    assert same_quantity("1e3", 1000)
    assert not same_quantity("1G", "1Gi")
    assert not same_quantity("x", "x")
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity("-1")


def test_gateway_config_is_sorted_and_the_older_environment_comes_first() -> None:
    """Routes lead to the component's Service and port; of equal prefixes the older environment's stands first."""

    def one(environment: str, port: int) -> Graph:
        routes = [{"path": "/users/", "targetComponent": "users", "targetPort": port}]
        routes.append({"path": "/", "targetComponent": "users"})
        return graph_of(spec(component(port=81), environment=environment, ingress={"routes": routes}))

    config: dict[str, Any] = gateway_config([("2026-01-02", one("a", 2)), ("2026-01-01", one("z", 1))])
    assert [(r["path_prefix"], r["upstream_url"]) for r in config["routing"]["routes"]] == [
        ("/", "http://svc-users:81"),
        ("/", "http://svc-users:81"),
        ("/users", "http://svc-users:1"),
        ("/users", "http://svc-users:2"),
    ]
    assert config["poll_interval_secs"] == 5
    assert config["routing"]["routes"][0].keys() == {"path_prefix", "upstream_url", "strip_prefix", "timeout_ms"}


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


def test_an_object_stripped_of_labels_and_owner_is_still_known_by_who_applied_it() -> None:
    """What the operator applied and nobody claims is taken back; the same object of somebody else is not."""
    applier = NoopApplier()
    value = spec(component())
    converge(applier, value)
    metadata = applier.objects["ConfigMap", "cm-users"]["metadata"]
    del metadata["labels"], metadata["ownerReferences"]
    assert [(a.verb, a.name) for a in converge(applier, value)] == [("Update", "cm-users")]
    metadata = applier.objects["ConfigMap", "cm-users"]["metadata"]
    del metadata["labels"], metadata["ownerReferences"], metadata["ownedFields"]
    assert [(a.verb, a.name) for a in converge(applier, value)] == [("Conflict", "cm-users")]
