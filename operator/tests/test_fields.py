"""Which fields differ, and whose they are."""

import copy
from typing import Any

from specs import OPTIONS, OWNER, component, converge, graph_of, spec

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import desired
from turbo_operator.core.fields import applied_fields, differences, slim


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
