"""Which fields differ, and whose they are."""

import copy
import json
from typing import Any

import pytest
from specs import OPTIONS, OWNER, component, converge, graph_of, spec

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import desired
from turbo_operator.core.fields import OWNED_FIELDS, applied_fields, differences, owned_fields, slim


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


def _observed(owned: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"metadata": {OWNED_FIELDS: json.dumps(owned, sort_keys=True)}, **fields}


def test_slim_keeps_of_managed_fields_what_we_applied() -> None:
    """Entries of others, of updates and of the status go; ours is kept as text; the object given stays as it was."""
    ours = {"manager": names.MANAGER, "operation": "Apply", "fieldsV1": {"f:b": {}, "f:a": {"f:c": {}}}}
    obj = {
        "kind": "Service",
        "metadata": {
            "name": "svc-a",
            "selfLink": "/x",
            "managedFields": [
                ours,
                {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:x": {}}},
                {"manager": names.MANAGER, "operation": "Update", "fieldsV1": {"f:y": {}}},
                {"manager": names.MANAGER, "operation": "Apply", "subresource": "status", "fieldsV1": {"f:z": {}}},
            ],
        },
        "spec": {"a": 1},
    }
    before = copy.deepcopy(obj)
    kept = {"name": "svc-a", OWNED_FIELDS: '{"f:a":{"f:c":{}},"f:b":{}}'}
    assert slim(obj) == {"kind": "Service", "metadata": kept, "spec": {"a": 1}}
    assert obj == before
    assert owned_fields(slim(obj)) == ours["fieldsV1"]


def test_what_was_never_applied_owns_nothing() -> None:
    """An object without managed fields, or with an empty entry of ours, is one of which no field is ours."""
    for metadata in (
        {},
        {"managedFields": None},
        {"managedFields": [{"manager": names.MANAGER, "operation": "Apply"}]},
    ):
        obj = slim({"metadata": metadata, "a": 1})
        assert owned_fields(obj) == {}
        assert differences({"a": 1}, obj) == ("a",)
    assert OWNED_FIELDS not in slim({"metadata": {}})["metadata"]


def test_the_tree_of_dev_mode_goes_down_to_every_leaf() -> None:
    """Maps are branches; values, lists and empty maps are leaves."""
    wanted = {"a": {"b": {"c": 1}, "d": [{"e": 1}]}, "f": {}, "g": "x"}
    assert applied_fields(wanted) == {"f:a": {"f:b": {"f:c": {}}, "f:d": {}}, "f:f": {}, "f:g": {}}


def test_entries_of_keyed_lists_are_owned_one_by_one() -> None:
    """As on a server: what an entry has no more is seen to be owned and not wanted."""
    container = {"name": "main", "image": "a:1", "ports": [{"containerPort": 80, "name": "http"}], "args": ["x"]}
    ports: dict[str, Any] = {'k:{"containerPort": 80}': {"f:containerPort": {}, "f:name": {}}}
    fields = {"f:name": {}, "f:image": {}, "f:ports": ports, "f:args": {}}
    assert applied_fields({"containers": [container]}) == {"f:containers": {'k:{"name": "main"}': fields}}
    assert applied_fields({"data": {"ports": "80", "containers": ""}}) == {
        "f:data": {"f:ports": {}, "f:containers": {}}
    }
    assert applied_fields({"ports": [{"port": 80}]}) == {"f:ports": {'k:{"port": 80}': {"f:port": {}}}}


_ITEM: dict[str, Any] = {".": {}, "f:name": {}, "f:port": {}}
_A, _B = 'k:{"name":"a"}', 'k:{"name":"b"}'
_FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "equal": ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, {"f:a": {}, "f:b": {"f:c": {}}}, ()),
    "another value": ({"b": {"c": 2}}, {"b": {"c": 3}}, {"f:b": {"f:c": {}}}, ("b.c",)),
    "a field that is not there": ({"a": 1, "b": {"c": 2}}, {"b": {}}, {"f:a": {}, "f:b": {"f:c": {}}}, ("a", "b.c")),
    "an equal field that we do not own": (
        {"b": {"c": 2, "d": 3}},
        {"b": {"c": 2, "d": 3}},
        {"f:b": {"f:d": {}}},
        ("b.c",),
    ),
    "fields that we own and no longer want": (
        {"b": {"c": 2}},
        {"b": {"c": 2, "d": 3}, "e": 4},
        {"f:b": {".": {}, "f:c": {}, "f:d": {}}, "f:e": {}},
        ("b.d", "e"),
    ),
    "fields of others": ({"b": {"c": 2}}, {"b": {"c": 2, "d": 3}, "e": 4}, {"f:b": {"f:c": {}}}, ()),
    "what names the object": (
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "uid": "x"}},
        {},
        {"f:metadata": {}},
        ("metadata",),
    ),
    "a map in place of a value": ({"a": {"b": 1}}, {"a": 1}, {"f:a": {"f:b": {}}}, ("a",)),
    "a value in place of a map": ({"a": 1}, {"a": {"b": 1}}, {"f:a": {"f:b": {}}}, ("a",)),
    "an atomic map": ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, {"f:a": {}}, ("a",)),
    "an atomic map with defaults further down": (
        {"a": {"b": {"c": 1}}},
        {"a": {"b": {"c": 1, "default": 2}}},
        {"f:a": {}},
        (),
    ),
    "an atomic map with another value further down": (
        {"a": {"b": {"c": 1}}},
        {"a": {"b": {"c": 2}}},
        {"f:a": {}},
        ("a",),
    ),
    "an atomic map with a map in place of a value": ({"a": {"b": 1}}, {"a": {"b": {"c": 1}}}, {"f:a": {}}, ("a",)),
    "an atomic map with a value in place of a map": ({"a": {"b": {"c": 1}}}, {"a": {"b": 1}}, {"f:a": {}}, ("a",)),
    "an atomic map that lacks a key further down": ({"a": {"b": {"c": 1}}}, {"a": {"b": {}}}, {"f:a": {}}, ("a",)),
    "an atomic list with defaults in its items": (
        {"a": [1, {"b": {"c": 1}}]},
        {"a": [1, {"b": {"c": 1, "d": 2}, "default": 2}]},
        {"f:a": {}},
        (),
    ),
    "an atomic list with another item": ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, {"f:a": {}}, ("a",)),
    "an atomic list of another length": ({"a": [1]}, {"a": [1, 2]}, {"f:a": {}}, ("a",)),
    "a value in place of an atomic list": ({"a": [1]}, {"a": 1}, {"f:a": {}}, ("a",)),
    "a value in place of an atomic map": ({"a": {"b": 1}}, {"a": 1}, {"f:a": {}}, ("a",)),
    "a quantity spelled otherwise": (
        {"c": {"resources": {"cpu": "0.5"}}},
        {"c": {"resources": {"cpu": "500m"}}},
        {"f:c": {"f:resources": {"f:cpu": {}}}},
        (),
    ),
    "another quantity": (
        {"c": {"resources": {"cpu": "0.5"}}},
        {"c": {"resources": {"cpu": "501m"}}},
        {"f:c": {"f:resources": {"f:cpu": {}}}},
        ("c.resources.cpu",),
    ),
    "what only looks like a quantity": (
        {"data": {"A": "0.5"}},
        {"data": {"A": "500m"}},
        {"f:data": {"f:A": {}}},
        ("data.A",),
    ),
    "a keyed list in another order, with an item of others": (
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]},
        {"ports": [{"name": "x"}, {"name": "b", "port": 2, "default": 3}, {"name": "a", "port": 1}]},
        {"f:ports": {".": {}, _A: _ITEM, _B: _ITEM}},
        (),
    ),
    "an item that differs": (
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]},
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 3}]},
        {"f:ports": {_A: _ITEM, _B: _ITEM}},
        ("ports[b].port",),
    ),
    "an item that is gone, before one that is there": (
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]},
        {"ports": [{"name": "b", "port": 2}]},
        {"f:ports": {_A: _ITEM, _B: _ITEM}},
        ("ports[a]",),
    ),
    "an item that we own and no longer want, before one that differs": (
        {"ports": [{"name": "b", "port": 2}]},
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 3}]},
        {"f:ports": {_A: _ITEM, _B: _ITEM}},
        ("ports[a]", "ports[b].port"),
    ),
    "items of which none is ours": (
        {"ports": [{"name": "a", "port": 1}, {"port": 2}, 3]},
        {"ports": [{"name": "a", "port": 1}, {"port": 2}, 3]},
        {"f:ports": {".": {}}},
        ("ports[1]", "ports[2]", "ports[a]"),
    ),
    "a keyed list of which nothing is left": (
        {"ports": [{"name": "a", "port": 1}]},
        {"ports": None},
        {"f:ports": {_A: _ITEM}},
        ("ports[a]",),
    ),
    "an item of two keys": (
        {"ports": [{"port": 80, "protocol": "TCP", "name": "a"}]},
        {"ports": [{"port": 80, "protocol": "UDP", "name": "a"}, {"port": 80, "protocol": "TCP", "name": "b"}]},
        {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:name": {}, "f:port": {}, "f:protocol": {}}}},
        ("ports[80,TCP].name",),
    ),
}


@pytest.mark.parametrize(("wanted", "present", "owned", "expected"), _FIELDS.values(), ids=_FIELDS.keys())
def test_r09_r19_which_fields_an_apply_would_change(
    wanted: dict[str, Any], present: dict[str, Any], owned: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """A field is changed if its value differs, if it is not ours yet, or if it is ours and no longer wanted."""
    assert differences(wanted, _observed(owned, **present)) == expected
