"""Whose an object is: what is made, taken over, left alone and removed, with the API server's own rules."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from sandbox import GC_S, OperatorProcess, Sandbox, built, later, settled, wait
from specs import idle, spec

from turbo_operator.core import names
from turbo_operator.kube.client import ApiError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def _uid(sandbox: Sandbox, kind: str, name: str) -> str | None:
    obj = sandbox.get(kind, name)
    return None if obj is None else obj["metadata"]["uid"]


def test_r14_a_foreign_object_is_never_touched(sandbox: Sandbox) -> None:
    """A foreign Service stays as it is; when it goes, exactly one of two graphs that want its name gets all of it."""
    foreign = {"metadata": {"name": "svc-users"}, "spec": {"ports": [{"port": 1}]}}
    version = sandbox.create("Service", foreign)["metadata"]["resourceVersion"]
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle()))
        settled(operator, phase="Degraded")
        later(sandbox, operator)
        assert (sandbox.get("Service", "svc-users") or {})["metadata"]["resourceVersion"] == version
        row = operator.get("/v1/status/env-1")["componentStatuses"][0]
        assert row["phase"] == "Conflict"
        assert [a["action"] for a in operator.actions() if a["resource_name"] == "svc-users"] == ["Conflict"]
        sandbox.apply(spec(idle(), environment="env-2"))
        settled(operator, "env-2", "Degraded")
        sandbox.delete("Service", "svc-users")
        both = ("env-1", "env-2")
        wait("one winner", lambda: sorted(str(operator.phase(e)) for e in both) == ["Degraded", "Running"])
        owners = {obj["metadata"]["ownerReferences"][0]["name"] for obj in sandbox.children().values()} - {"later"}
        assert [operator.phase(owner) for owner in owners] == ["Running"]


def test_r14_labels_alone_give_nobody_anything(sandbox: Sandbox) -> None:
    """An object that another controller owns is neither changed nor deleted, whatever labels it was given.

    Nor is another environment's object that was relabelled: its own graph puts the label right again.
    """
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle("mine"), idle("taken"), environment="env-1"))
        sandbox.apply(spec(idle("other"), environment="env-2"))
        settled(operator)
        settled(operator, "env-2")
        mine = sandbox.get("Deployment", "deploy-mine") or {}
        labels = {**mine["metadata"]["labels"], names.LABEL_COMPONENT: "hostile"}
        boss = sandbox.create("ConfigMap", {"metadata": {"name": "boss"}})["metadata"]["uid"]
        controlled = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "boss", "uid": boss, "controller": True}]
        for name in ("hostile", "deploy-late"):
            metadata = {"name": name, "labels": labels, "ownerReferences": controlled}
            sandbox.create("Deployment", {"metadata": metadata, "spec": mine["spec"]})
        hostile = {name: _version(sandbox, name) for name in ("hostile", "deploy-late")}
        uid = _uid(sandbox, "ConfigMap", "cm-other")
        sandbox.patch("ConfigMap", "cm-other", {"metadata": {"labels": {names.LABEL_ENVIRONMENT: "env-1"}}})
        sandbox.replace(spec(idle("mine"), idle("late"), build="build-2"))
        wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
        settled(operator, phase="Degraded")
        wait("the label", lambda: _label(sandbox, "cm-other") == "env-2")
        settled(operator, "env-2")
        assert _uid(sandbox, "ConfigMap", "cm-other") == uid
        rows = {row["packageName"]: row for row in operator.get("/v1/status/env-1")["componentStatuses"]}
        assert {name: row["phase"] for name, row in rows.items()} == {"mine": "Running", "late": "Conflict"}
        assert "ConfigMap boss" in rows["late"]["message"]
        wait("the component nobody wants to go", lambda: sandbox.get("Deployment", "deploy-taken") is None)
        assert {name: _version(sandbox, name) for name in hostile} == hostile


def _version(sandbox: Sandbox, deployment: str) -> int:
    """Its generation: the Deployment controller, which is at work, writes annotations and status."""
    return int((sandbox.get("Deployment", deployment) or {"metadata": {"generation": 0}})["metadata"]["generation"])


def _label(sandbox: Sandbox, config_map: str) -> str | None:
    obj = sandbox.get("ConfigMap", config_map)
    return None if obj is None else obj["metadata"]["labels"].get(names.LABEL_ENVIRONMENT)


def test_r13_what_cannot_be_changed_is_replaced(sandbox: Sandbox) -> None:
    """A ConfigMap made immutable by hand and a Deployment with another selector are made anew once, as declared."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle(env={"A": "1"})))
        settled(operator)
        before = {key: obj["metadata"]["uid"] for key, obj in sandbox.children().items()}
        sandbox.patch("ConfigMap", "cm-users", {"immutable": True})
        sandbox.replace(spec(idle(env={"A": "2"}), build="build-2"))
        built(operator, "build-2")
        wait("nothing to be left", lambda: sandbox.outstanding() == ())
        config = sandbox.get("ConfigMap", "cm-users") or {}
        assert (config["data"], config.get("immutable")) == ({"A": "2"}, None)
        deployment = sandbox.get("Deployment", "deploy-users") or {}
        other = {"app": "other"}
        body = {
            "metadata": {key: deployment["metadata"][key] for key in ("name", "labels", "ownerReferences")},
            "spec": {
                **deployment["spec"],
                "selector": {"matchLabels": other},
                "template": {**deployment["spec"]["template"]},
            },
        }
        body["spec"]["template"]["metadata"] = {"labels": other}
        operator.process.send_signal(signal.SIGSTOP)  # it would be faster than we are
        sandbox.delete("Deployment", "deploy-users")
        made = sandbox.create("Deployment", body)["metadata"]["uid"]
        operator.process.send_signal(signal.SIGCONT)
        wait("the selector", lambda: _selector(sandbox) == deployment["spec"]["selector"])
        settled(operator)
        after = {key: obj["metadata"]["uid"] for key, obj in sandbox.children().items()}
        assert after["Deployment", "deploy-users"] not in {made, before["Deployment", "deploy-users"]}
        assert after["ConfigMap", "cm-users"] != before["ConfigMap", "cm-users"]
        assert after["Service", "svc-users"] == before["Service", "svc-users"]
        replaced = [(a["action"], a["resource_kind"]) for a in operator.actions() if "replaced" in a["reason"]]
        assert replaced == [("Delete", "ConfigMap"), ("Delete", "Deployment")]
        assert sandbox.outstanding() == ()


def _selector(sandbox: Sandbox) -> Any:
    return ((sandbox.get("Deployment", "deploy-users") or {}).get("spec") or {}).get("selector")


def test_r08_nothing_comes_back_while_the_graph_is_being_deleted(sandbox: Sandbox) -> None:
    """A graph that a foreign finalizer keeps is Deleting: children deleted meanwhile stay away; then all is gone."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle("a"), idle("b")))
        settled(operator)
        sandbox.patch("APIGraph", "env-1", {"metadata": {"finalizers": ["example.com/hold"]}})
        sandbox.delete("APIGraph", "env-1")
        settled(operator, phase="Deleting")
        seen = len(operator.actions())
        sandbox.delete("Service", "svc-a")
        sandbox.patch("Deployment", "deploy-a", {"spec": {"replicas": 2}})
        # A graph beside it shows that the operator has seen what came before.
        sandbox.apply(spec(idle("later"), environment="env-2"))
        settled(operator, "env-2")
        assert {a["environment_id"] for a in operator.actions()[seen:]} == {"env-2"}
        assert sandbox.get("Service", "svc-a") is None
        sandbox.patch("APIGraph", "env-1", {"metadata": {"finalizers": None}})
        wait("404", lambda: operator.client.get("/v1/status/env-1").status_code == 404, GC_S)
        assert {name.partition("-")[2] for _, name in sandbox.children()} == {"later"}
        assert {a["environment_id"] for a in operator.actions()[seen:]} == {"env-2"}


@contextmanager
def _refusing(sandbox: Sandbox, service: str) -> Iterator[None]:
    """The API server's admission refuses to make one Service of the namespace."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    name = f"{sandbox.namespace}-no-{service}"
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": sandbox.namespace}}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
    policy = {
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {**here, "resourceRules": [rule]},
            "validations": [{"expression": f"object.metadata.name != '{service}'", "message": "not on a Monday"}],
        },
    }
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    sandbox.admin.request("POST", path, body=policy)
    sandbox.admin.request("POST", f"{path.removesuffix('policies')}policybindings", body=binding)

    def refused() -> bool:
        body = {"metadata": {"name": service}, "spec": {"ports": [{"port": 1}]}}
        try:
            sandbox.admin.request("POST", sandbox.admin.path("Service"), query={"dryRun": "All"}, body=body)
        except ApiError as error:
            return "not on a Monday" in error.message
        return False

    wait("the policy to be in force", refused)
    try:
        yield
    finally:
        sandbox.admin.request("DELETE", f"{path.removesuffix('policies')}policybindings/{name}")
        sandbox.admin.request("DELETE", f"{path}/{name}")


def test_r16_one_object_that_admission_refuses_stops_no_other(sandbox: Sandbox) -> None:
    """The others are made and the refusal is told, by status and POST; it is tried ever less often, and then made."""
    value = spec(*(idle(f"c{n}") for n in range(5)))
    with sandbox.operator() as operator:
        with _refusing(sandbox, "svc-c2"):
            reply = operator.client.post("/v1/reconcile", json=value).json()
            outcomes = {a["resource_name"]: a["outcome"] for a in reply["actions"] if a["resource_kind"] == "Service"}
            assert outcomes == {f"svc-c{n}": "failed" if n == 2 else "ok" for n in range(5)}
            wait("all the others", lambda: len(sandbox.children()) == 14)
            wait("the others to run", lambda: [row["packageName"] for row in _not_running(operator)] == ["c2"])
            assert operator.phase("env-1") == "Degraded"
            assert "not on a Monday" in _not_running(operator)[0]["message"]
            wait("three tries", lambda: len(_tries(operator)) >= 3)
            first, second, third = _tries(operator)[:3]
            assert second - first >= 0.8
            assert third - second >= 1.6
        settled(operator)
        assert sandbox.get("Service", "svc-c2")
        assert sum(a["outcome"] == "ok" for a in operator.actions()) == 16  # 15 objects and the APIGraph


def _not_running(operator: OperatorProcess) -> list[dict[str, Any]]:
    rows = operator.get("/v1/status/env-1")["componentStatuses"]
    return [row for row in rows if row["phase"] != "Running"]


def _tries(operator: OperatorProcess) -> list[float]:
    """When the refused Service was tried, in seconds."""
    times = [a["time"] for a in operator.actions() if a["resource_name"] == "svc-c2"]
    return [datetime.fromisoformat(each).timestamp() for each in times]


def test_r20_deleting_the_graph_removes_its_children_with_the_operator_down(sandbox: Sandbox) -> None:
    """Garbage collection does it; a running operator says Deleting until nothing is left, then 404."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle()))
        sandbox.apply(spec(idle("other"), environment="env-2"))
        settled(operator)
        settled(operator, "env-2")
        sandbox.delete("APIGraph", "env-2")
        wait("404", lambda: operator.client.get("/v1/status/env-2").status_code == 404, GC_S)
        assert not {key for key in sandbox.children() if "other" in key[1]}
        operator.end(signal.SIGKILL)
    sandbox.delete("APIGraph", "env-1")
    wait("the children to go", lambda: not sandbox.children(), GC_S)


def test_r20_a_namespace_is_deleted_with_the_operator_up_and_down(new_sandbox: Callable[[], Sandbox]) -> None:
    """Nothing of the operator's holds it up: no finalizer, and no child made again and again."""
    up, down = new_sandbox(), new_sandbox()
    for sandbox in (up, down):
        sandbox.apply(spec(*(idle(f"c{n}") for n in range(10))))
    with down.operator() as operator:
        settled(operator)
    with up.operator() as operator:
        settled(operator)
        for sandbox in (up, down):
            sandbox.admin.request("DELETE", f"/api/v1/namespaces/{sandbox.namespace}")
        for sandbox in (up, down):
            wait(f"namespace {sandbox.namespace} to be gone", partial(_gone, sandbox), 60)
        assert operator.alive()


def _gone(sandbox: Sandbox) -> bool:
    try:
        sandbox.admin.request("GET", f"/api/v1/namespaces/{sandbox.namespace}")
    except ApiError as error:
        return error.status == 404
    return False


def test_r20_orphans_are_adopted_by_the_next_graph_of_the_name(sandbox: Sandbox) -> None:
    """Deleted with `--cascade=orphan`, a graph leaves its children; the next one of its name takes them over."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle("a", env={"A": "1"}), idle("b")))
        settled(operator)
        before = {key: obj["metadata"]["uid"] for key, obj in sandbox.children().items()}
        seen = len(operator.actions())
        orphan = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
        sandbox.admin.request("DELETE", sandbox.admin.path("APIGraph", "env-1"), body=orphan)
        wait("404", lambda: operator.client.get("/v1/status/env-1").status_code == 404, GC_S)
        children = sandbox.children()
        assert {key: obj["metadata"]["uid"] for key, obj in children.items()} == before
        assert not [key for key, obj in children.items() if obj["metadata"].get("ownerReferences")]
        assert operator.actions()[seen:] == []
        graph = sandbox.apply(spec(idle("a", env={"A": "1"}), build="build-2"))
        built(operator, "build-2")
        wait("the orphan nobody wants to go", lambda: len(sandbox.children()) == 3)
        after = sandbox.children()
        assert {key: obj["metadata"]["uid"] for key, obj in after.items()} == {key: before[key] for key in after}
        assert {key for key in after if key[1].endswith("-a")} == set(after)
        for obj in after.values():
            assert [r["uid"] for r in obj["metadata"]["ownerReferences"]] == [graph["metadata"]["uid"]]
        assert {a["action"] for a in operator.actions()[seen:]} == {"Update", "Delete"}


@pytest.mark.parametrize(
    ("kind", "name", "pointer", "value"),
    [
        ("Service", "svc-a", "/spec/ports/0/port", 9999),
        ("Deployment", "deploy-a", "/spec/template/spec/containers/0/name", "mine"),
        ("Deployment", "deploy-a", "/spec/template/spec/containers/0/ports/0/containerPort", 9999),
    ],
    ids=["port", "container", "container port"],
)
def test_r13_an_entry_rewritten_by_hand_is_replaced(
    sandbox: Sandbox, kind: str, name: str, pointer: str, value: Any
) -> None:
    """What an apply could only put beside it, or not at all, comes back as the graph says, and the graph is settled."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle("a")))
        settled(operator)
        before = sandbox.get(kind, name)
        assert before is not None
        patch = [{"op": "replace", "path": pointer, "value": value}]
        path = sandbox.admin.path(kind, name)
        sandbox.admin.request("PATCH", path, body=patch, content_type="application/json-patch+json")

        def made_again() -> bool:
            live = sandbox.get(kind, name)
            return live is not None and live["metadata"]["uid"] != before["metadata"]["uid"]

        wait("the object to be made again", made_again)
        settled(operator)
        live = sandbox.get(kind, name)
        assert live is not None
        if kind == "Service":
            assert [port["port"] for port in live["spec"]["ports"]] == [8080]
        else:
            assert live["spec"]["template"] == before["spec"]["template"]
        assert [a["outcome"] for a in operator.actions()] == ["ok"] * len(operator.actions())
