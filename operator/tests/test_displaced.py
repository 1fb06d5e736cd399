"""Entries of keyed lists that somebody rewrote by hand: what server-side apply cannot put right."""

import copy
import json
from typing import Any

import pytest
from specs import OPTIONS, OWNER, component, graph_of, spec

from turbo_operator.core.desired import Object, desired
from turbo_operator.core.fields import OWNED_FIELDS, displaced, slim
from turbo_operator.core.plan import plan


def applied(**runtime: Any) -> dict[str, Object]:
    """The objects of one component by kind, as the API server shows them after an apply."""
    found = {}
    for obj in desired(graph_of(spec(component(**runtime))), OWNER, OPTIONS):
        live = copy.deepcopy(obj)
        live["metadata"]["uid"] = f"uid-{obj['kind']}"
        entry = {"manager": "turbo-engine-operator", "operation": "Apply", "fieldsV1": _tree(obj)}
        live["metadata"]["managedFields"] = [entry]
        found[obj["kind"]] = live
    return found


def _tree(value: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field, inner in value.items():
        if field == "ports":
            key = "port" if "port" in inner[0] else "containerPort"
            tree["f:ports"] = {f'k:{{"{key}":{p[key]},"protocol":"TCP"}}': {".": {}, **_tree(p)} for p in inner}
        elif field == "containers":
            tree["f:containers"] = {f'k:{{"name":"{c["name"]}"}}': {".": {}, **_tree(c)} for c in inner}
        else:
            tree[f"f:{field}"] = _tree(inner) if isinstance(inner, dict) and inner else {}
    return tree


def edited(kind: str, edit: Any) -> tuple[str, Object]:
    """The plan's verb for an object that `edit` changed, and what was planned on."""
    live = applied()
    edit(live[kind])
    observed = {(obj["kind"], obj["metadata"]["name"]): slim(obj) for obj in live.values()}
    graph = graph_of(spec(component()))
    actions = plan(graph, desired(graph, OWNER, OPTIONS), observed, OWNER)
    return ", ".join(f"{action.verb} {action.kind}" for action in actions), live[kind]


def _port(service: Object) -> None:
    service["spec"]["ports"][0]["port"] = 9999
    service["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop("f:ports")


def _container(deployment: Object) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["name"] = "mine"
    pod = deployment["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    pod.pop("f:containers")


def _container_port(deployment: Object) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 9999
    pod = deployment["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    pod["f:containers"]['k:{"name":"users"}'].pop("f:ports")


@pytest.mark.parametrize(
    ("kind", "edit"),
    [("Service", _port), ("Deployment", _container), ("Deployment", _container_port)],
    ids=["port", "container", "container port"],
)
def test_r13_an_entry_put_in_the_place_of_ours_is_a_replacement(kind: str, edit: Any) -> None:
    """Applied in place it would stand beside ours, or be refused for good."""
    assert edited(kind, edit)[0] == f"Delete {kind}"


def test_r19_an_entry_beside_ours_is_left_alone() -> None:
    """A port and a container that others added are their business."""

    def one_more(service: Object) -> None:
        service["spec"]["ports"].append({"name": "debug", "port": 7777, "targetPort": 7777, "protocol": "TCP"})

    def sidecar(deployment: Object) -> None:
        deployment["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "x"})

    assert edited("Service", one_more)[0] == ""
    assert edited("Deployment", sidecar)[0] == ""


def test_a_port_that_the_graph_changes_is_an_update_also_beside_somebody_elses() -> None:
    """Our old entry is still ours: an apply takes it away, and nothing has to be replaced."""
    live = applied()
    live["Service"]["spec"]["ports"].append({"name": "debug", "port": 7777, "targetPort": 7777, "protocol": "TCP"})
    graph = graph_of(spec(component(port=9090)))
    observed = {(obj["kind"], obj["metadata"]["name"]): slim(obj) for obj in live.values()}
    actions = plan(graph, desired(graph, OWNER, OPTIONS), observed, OWNER)
    assert [f"{action.verb} {action.kind}" for action in actions] == ["Update Service", "Update Deployment"]


def test_r19_a_port_that_the_graph_gains_is_an_update_also_beside_somebody_elses() -> None:
    """A new entry of the graph is no sign that anybody took its place: nothing is replaced, theirs stays."""
    live = applied()
    live["Service"]["spec"]["ports"].append({"name": "debug", "port": 7777, "targetPort": 7777, "protocol": "TCP"})
    container = live["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    container["ports"].append({"name": "debug", "containerPort": 7777, "protocol": "TCP"})
    routes = [{"path": "/admin", "targetComponent": "users", "targetPort": 9000}]
    graph = graph_of(spec(component(), ingress={"routes": routes}))
    observed = {(obj["kind"], obj["metadata"]["name"]): slim(obj) for obj in live.values()}
    actions = plan(graph, desired(graph, OWNER, OPTIONS), observed, OWNER)
    assert [f"{action.verb} {action.kind}" for action in actions] == ["Update Service", "Update Deployment"]


def test_r13_an_entry_put_in_the_place_of_one_of_ours_is_a_replacement() -> None:
    """An apply would be refused: the other entry has the name of ours."""
    routes = [{"path": "/admin", "targetComponent": "users", "targetPort": 9000}]
    graph = graph_of(spec(component(), ingress={"routes": routes}))
    wanted = next(o for o in desired(graph, OWNER, OPTIONS) if o["kind"] == "Service")
    live = copy.deepcopy(wanted)
    tree = _tree(wanted)
    tree["f:spec"]["f:ports"].pop('k:{"port":9000,"protocol":"TCP"}')
    live["metadata"]["managedFields"] = [{"manager": "turbo-engine-operator", "operation": "Apply", "fieldsV1": tree}]
    live["spec"]["ports"][1]["port"] = 9999
    assert displaced(wanted, slim(live)) == "spec.ports"


def test_an_object_that_was_never_applied_is_not_replaced() -> None:
    """What bears our labels only by chance is not deleted for its ports."""
    live = applied()["Service"]
    live["spec"]["ports"][0]["port"] = 9999
    live["metadata"].pop("managedFields")
    wanted = next(o for o in desired(graph_of(spec(component())), OWNER, OPTIONS) if o["kind"] == "Service")
    assert displaced(wanted, slim(live)) is None


_OURS, _OLD = 'k:{"port":80,"protocol":"TCP"}', 'k:{"port":79}'
_WANTED = {"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}
_PODS = {"containers": [{"name": "a", "args": ["x"]}, {"name": "b", "ports": [{"name": "http", "containerPort": 1}]}]}
_LISTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str | None]] = {
    "another in the place of ours": (_WANTED, {"spec": {"ports": [{"port": 81}]}}, {"f:spec": {".": {}}}, "spec.ports"),
    "so, and the manager still has ours": (
        _WANTED,
        {"spec": {"ports": [{"port": 81}]}},
        {"f:spec": {"f:ports": {_OURS: {}}}},
        "spec.ports",
    ),
    "so, and nothing of it is ours": (_WANTED, {"spec": {"ports": [{"port": 81}]}}, {}, "spec.ports"),
    "one that has not even a key": (_WANTED, {"spec": {"ports": [{"name": "x"}]}}, {}, "spec.ports"),
    "ours, and another": (_WANTED, {"spec": {"ports": [{"port": 81}, {"port": 80}]}}, {}, None),
    "none at all": (_WANTED, {"spec": {"ports": []}}, {}, None),
    "no list": (_WANTED, {"spec": {"ports": None}}, {}, None),
    "no map": (_WANTED, {"spec": None}, {}, None),
    "ours of before": (
        _WANTED,
        {"spec": {"ports": [{"port": 79}]}},
        {"f:spec": {"f:ports": {".": {}, _OLD: {}}}},
        None,
    ),
    "ours of before, and theirs": (
        _WANTED,
        {"spec": {"ports": [{"port": 81}, {"port": 79}]}},
        {"f:spec": {"f:ports": {_OLD: {}}}},
        None,
    ),
    "ours of before that went already": (
        _WANTED,
        {"spec": {"ports": [{"port": 81}]}},
        {"f:spec": {"f:ports": {_OLD: {}}}},
        "spec.ports",
    ),
    "a list that is all ours": (_WANTED, {"spec": {"ports": [{"port": 81}]}}, {"f:spec": {"f:ports": {}}}, None),
    "a list within an entry": (
        _PODS,
        {"containers": [{"name": "a", "args": ["y"]}, {"name": "b", "ports": [{"containerPort": 2}]}]},
        {"f:containers": {'k:{"name":"a"}': {}, 'k:{"name":"b"}': {"f:name": {}}}},
        "containers[b].ports",
    ),
    "a list that is all ours within an entry": (
        _PODS,
        {"containers": [{"name": "b", "ports": [{"containerPort": 2}]}]},
        {"f:containers": {'k:{"name":"b"}': {"f:ports": {}}}},
        None,
    ),
    "a list within an entry of which nothing is ours": (
        _PODS,
        {"containers": [{"name": "b", "ports": [{"containerPort": 2}]}]},
        {"f:containers": {".": {}}},
        "containers[b].ports",
    ),
    "entries that are as they were": (_PODS, copy.deepcopy(_PODS), {}, None),
}


@pytest.mark.parametrize(("wanted", "present", "owned", "path"), _LISTS.values(), ids=_LISTS.keys())
def test_r13_which_list_was_rewritten(
    wanted: dict[str, Any], present: dict[str, Any], owned: dict[str, Any], path: str | None
) -> None:
    """It is the one in which an entry of ours is gone, and one that was never ours is there."""
    assert displaced(wanted, {"metadata": {OWNED_FIELDS: json.dumps(owned)}, **present}) == path


def test_r13_a_replacement_says_what_was_rewritten() -> None:
    """The reason of the delete names the list."""
    live = applied()
    _port(live["Service"])
    graph = graph_of(spec(component()))
    observed = {(obj["kind"], obj["metadata"]["name"]): slim(obj) for obj in live.values()}
    actions = plan(graph, desired(graph, OWNER, OPTIONS), observed, OWNER)
    assert [(a.verb, a.reason, a.uid) for a in actions] == [
        ("Delete", "replaced: spec.ports was rewritten by hand", "uid-Service")
    ]
