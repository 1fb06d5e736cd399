"""The plan: what is written, what is waited for, and what is left alone."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from specs import OPTIONS, OWNER, component, contents, converge, graph_of, spec, valid_specs

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import Owner, desired
from turbo_operator.core.plan import encode, plan


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
