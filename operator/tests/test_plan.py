"""The plan: what is written, what is waited for, and what is left alone."""

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from specs import OPTIONS, OWNER, component, contents, converge, graph_of, spec, valid_specs

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import Owner, desired
from turbo_operator.core.fields import OWNED_FIELDS, applied_fields
from turbo_operator.core.plan import Action, belongs_to, encode, plan


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
@example(spec(component()), spec(component(resources={"requests": {"cpu": "100m"}})))
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


def test_an_object_whose_owner_was_taken_away_is_not_called_an_earlier_graphs() -> None:
    """Without an owner nobody can tell whose it was: the reason says what is seen, and the graph owns it again."""
    applier = NoopApplier()
    converge(applier, spec(component()))
    del applier.objects["Deployment", "deploy-users"]["metadata"]["ownerReferences"]
    (action,) = converge(applier, spec(component()))
    assert (action.verb, action.name, action.reason) == ("Update", "deploy-users", "taken back: no APIGraph owned it")
    assert action.fields == ("metadata.ownerReferences",)


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


def _maps(*objects: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {("ConfigMap", obj["metadata"]["name"]): obj for obj in objects}


def _config_map(**metadata: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "cm-users", "uid": "u1", **metadata}}


_OURS = {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_ENVIRONMENT: "env-1"}


def _graph_owner(**changed: Any) -> dict[str, Any]:
    owner = {"apiVersion": "turboengine.io/v1", "kind": "APIGraph", "name": "env-1", "uid": "uid-1", "controller": True}
    return {**owner, **changed}


_BOSS = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "boss", "uid": "u", "controller": True}
_BELONGS = {
    "its graph owns it, whatever its labels": (True, {"ownerReferences": [_graph_owner()]}),
    "its graph owns it and somebody else controls it": (
        True,
        {"ownerReferences": [_BOSS, _graph_owner(controller=False)], "labels": _OURS},
    ),
    "owned by the graph of this name that was there before": (
        True,
        {"ownerReferences": [_graph_owner(uid="old")], "labels": _OURS},
    ),
    "so, without the labels": (False, {"ownerReferences": [_graph_owner(uid="old")], OWNED_FIELDS: "{}"}),
    "so, and somebody else controls it now": (
        False,
        {"ownerReferences": [_graph_owner(uid="old", controller=False), _BOSS], "labels": _OURS},
    ),
    "owned by another graph": (
        False,
        {"ownerReferences": [_graph_owner(name="env-2", uid="uid-2")], "labels": _OURS, OWNED_FIELDS: "{}"},
    ),
    "owned, not controlled, by another graph": (
        False,
        {"ownerReferences": [_graph_owner(name="env-2", uid="uid-2", controller=False)], "labels": _OURS},
    ),
    "controlled by an APIGraph of another API": (
        False,
        {"ownerReferences": [_graph_owner(apiVersion="example.com/v1")], "labels": _OURS},
    ),
    "owned by a kind of another name in our API": (
        False,
        {"ownerReferences": [_graph_owner(kind="Other")], "labels": _OURS},
    ),
    "labelled as ours and owned by nobody": (True, {"ownerReferences": None, "labels": _OURS}),
    "labelled as ours and owned, not controlled, by somebody": (
        True,
        {"ownerReferences": [{**_BOSS, "controller": False}], "labels": _OURS},
    ),
    "labelled as another environment's": (False, {"labels": {**_OURS, names.LABEL_ENVIRONMENT: "env-2"}}),
    "labelled as somebody else's": (False, {"labels": {**_OURS, names.LABEL_MANAGED_BY: "helm"}, OWNED_FIELDS: "{}"}),
    "stripped of all but our own writing": (True, {"labels": None, OWNED_FIELDS: "{}"}),
    "of nobody": (False, {}),
}


@pytest.mark.parametrize(("ours", "metadata"), _BELONGS.values(), ids=_BELONGS.keys())
def test_r14_what_may_be_changed_for_a_graph(ours: bool, metadata: dict[str, Any]) -> None:
    """The graph's own objects, orphans of one of its name, and what we wrote and nobody claims; nothing else."""
    assert belongs_to(_config_map(**metadata), OWNER) is ours


_UNWANTED = {
    "owned by the graph and written by us": (True, {"ownerReferences": [_graph_owner()], OWNED_FIELDS: "{}"}),
    "owned by the graph but never written by us": (False, {"ownerReferences": [_graph_owner(controller=False)]}),
    "copied by hand from one of ours": (False, {"ownerReferences": [_graph_owner()], "labels": _OURS}),
    "labelled and written by us": (True, {"labels": _OURS, OWNED_FIELDS: "{}"}),
    "labelled like ours but never written by us": (False, {"labels": _OURS}),
    "written by us for another environment": (
        False,
        {"labels": {**_OURS, names.LABEL_ENVIRONMENT: "env-2"}, OWNED_FIELDS: "{}"},
    ),
    "on its way out": (
        False,
        {"ownerReferences": [_graph_owner()], OWNED_FIELDS: "{}", "deletionTimestamp": "2026-01-01T00:00:00Z"},
    ),
}


@pytest.mark.parametrize(("deleted", "metadata"), _UNWANTED.values(), ids=_UNWANTED.keys())
def test_r14_what_is_deleted_when_nobody_wants_it(deleted: bool, metadata: dict[str, Any]) -> None:
    """Only what was written by us and is the graph's by owner or label is deleted, by its uid and once."""
    observed = _maps(_config_map(**metadata))
    expected = (Action("Delete", "ConfigMap", "cm-users", "", "no longer in the graph", uid="u1"),) if deleted else ()
    assert plan(graph_of(spec()), (), observed, OWNER) == expected


def test_what_is_left_alone_hides_nothing_behind_it() -> None:
    """An object that is kept does not keep a later one that has to go."""
    applier = NoopApplier()
    converge(applier, spec(component("a"), component("b"), component("c")))
    for kind, prefix in names.PREFIXES.items():
        applier.objects[kind, f"{prefix}b"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    actions = converge(applier, spec(component("a")))
    assert [(a.verb, a.name, a.component) for a in actions] == [
        ("Delete", "deploy-c", "c"),
        ("Delete", "svc-c", "c"),
        ("Delete", "cm-c", "c"),
    ]


def test_r08_an_object_on_its_way_out_is_waited_for() -> None:
    """A wanted object with a deletion timestamp is neither written nor made anew until it is gone."""
    applier = NoopApplier()
    value = spec(component())
    converge(applier, value)
    service = applier.objects["Service", "svc-users"]
    service["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    service["spec"]["type"] = "NodePort"
    assert converge(applier, value) == ()


_DELETE_IT = ": once it is deleted, the component is made"
_ONE_ONLY = ": a package runs in one environment of a namespace only; once it is gone there, it runs here"


def test_an_action_says_what_is_written_and_why() -> None:
    """Create and Update carry the whole object, an Update its fields, Update and Delete the uid they are meant for."""
    graph = graph_of(spec(component(), component("sick", replicas=-1)))
    config_map, service, deployment = desired(graph, OWNER, OPTIONS)
    drifted = copy.deepcopy(deployment)
    drifted["spec"]["replicas"] = 5
    drifted["metadata"] |= {"uid": "d1", OWNED_FIELDS: json.dumps(applied_fields(deployment))}
    observed = {("Service", "svc-users"): {"kind": "Service", "metadata": {"name": "svc-users", "uid": "s1"}}}
    observed["Deployment", "deploy-users"] = drifted
    reason = "runtime.replicas: must be 0 to 1000, is -1"
    refused = Action("Refuse", "APIGraph", "env-1", "sick", f"sick: {reason}")
    held = f"exists and belongs to nobody known to turbo-engine-operator{_DELETE_IT}"
    conflict = Action("Conflict", "Service", "svc-users", "users", held)
    change = ("spec.replicas",)
    update = Action(
        "Update", "Deployment", "deploy-users", "users", "differs from the graph", change, deployment, uid="d1"
    )
    assert plan(graph, (config_map, service, deployment), observed, OWNER) == (refused, conflict, update)
    create = Action("Create", "ConfigMap", "cm-users", "users", "missing", body=config_map)
    assert plan(graph, (config_map,), {}, OWNER) == (refused, create)
    assert [a.writes for a in (refused, conflict, create, update)] == [False, False, True, True]


def test_r13_a_replacement_names_the_field_that_cannot_be_changed() -> None:
    """Who reads the actions sees which immutable field made a delete out of an update."""
    wanted = desired(graph_of(spec(component(env={"a.b": "1"}))), OWNER, OPTIONS)
    config_map, _, deployment = (copy.deepcopy(obj) for obj in wanted)
    config_map["data"]["a.b"] = "0"
    deployment["spec"]["selector"]["matchLabels"]["extra"] = "x"
    for obj, uid in ((config_map, "c1"), (deployment, "d1")):
        obj["metadata"] |= {"uid": uid, OWNED_FIELDS: json.dumps(applied_fields(obj))}
    config_map["immutable"] = True
    observed = {("ConfigMap", "cm-users"): config_map, ("Deployment", "deploy-users"): deployment}
    extra = ("spec.selector.matchLabels.extra",)
    cannot = "cannot be changed"
    assert plan(graph_of(spec()), (wanted[0], wanted[2]), observed, OWNER) == (
        Action("Delete", "Deployment", "deploy-users", "users", f"replaced: spec.selector {cannot}", extra, uid="d1"),
        Action(
            "Delete",
            "ConfigMap",
            "cm-users",
            "users",
            f"replaced: data of an immutable ConfigMap {cannot}",
            ("data.a.b",),
            uid="c1",
        ),
    )
    config_map["data"]["a.b"] = "1"
    config_map["metadata"]["labels"]["turboengine.io/kind"] = "changed"
    del deployment["spec"]
    replaced, updated = sorted(plan(graph_of(spec()), (wanted[0], wanted[2]), observed, OWNER), key=lambda a: a.verb)
    assert (updated.verb, updated.kind) == ("Update", "ConfigMap")
    assert (replaced.verb, replaced.kind) == ("Delete", "Deployment")


_HOLDERS = {
    f"ReplicaSet boss{_DELETE_IT}": {"ownerReferences": [{"kind": "Node", "name": "n"}, _BOSS], "labels": {**_OURS}},
    f"APIGraph env-2{_ONE_ONLY}": {"ownerReferences": [_graph_owner(name="env-2", uid="uid-2")]},
    f"environment env-2{_ONE_ONLY}": {"ownerReferences": None, "labels": {names.LABEL_ENVIRONMENT: "env-2"}},
    f"nobody known to turbo-engine-operator{_DELETE_IT}": {"labels": None},
}


@pytest.mark.parametrize(("holder", "metadata"), _HOLDERS.items(), ids=_HOLDERS.keys())
def test_r14_a_conflict_names_who_holds_the_name_and_what_frees_it(holder: str, metadata: dict[str, Any]) -> None:
    """The reason is the controller, else the environment, of the object that is in the way, and what to do about it."""
    graph = graph_of(spec(component()))
    wanted = desired(graph, OWNER, OPTIONS)[:1]
    expected = Action("Conflict", "ConfigMap", "cm-users", "users", f"exists and belongs to {holder}")
    assert plan(graph, wanted, _maps(_config_map(**metadata)), OWNER) == (expected,)


def test_r25_the_bytes_of_a_plan_hold_all_of_it() -> None:
    """Two plans have equal bytes only if nothing in them differs; the form is compact JSON with sorted keys, UTF-8."""
    action = Action("Update", "ConfigMap", "cm-a", "a", "wächst", ("data.A",), {"data": {"B": "2", "A": "1"}}, "u1")
    assert (
        encode((action, Action("Refuse", "APIGraph", "b", "b", "bad")))
        == (
            '[{"action":"Update","body":{"data":{"A":"1","B":"2"}},"component":"a","fields":["data.A"],'
            '"kind":"ConfigMap","name":"cm-a","reason":"wächst","uid":"u1"},'
            '{"action":"Refuse","body":null,"component":"b","fields":[],'
            '"kind":"APIGraph","name":"b","reason":"bad","uid":null}]'
        ).encode()
    )
