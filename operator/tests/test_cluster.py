"""The operator as a process, with its own rights, against a real API server with its controllers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sandbox import GC_S, OperatorProcess, Sandbox, later, settled, wait
from specs import idle, spec

from turbo_operator.core import names
from turbo_operator.kube.client import ApiError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def test_a_graph_applied_by_hand_becomes_objects_and_an_earned_status(sandbox: Sandbox) -> None:
    """ConfigMap, Service and Deployment appear by server-side apply, owned by the graph; then nothing more is done."""
    with sandbox.operator() as operator:
        routes = [{"path": "/users", "targetComponent": "users"}]
        value = spec(
            idle(env={"A": "1"}, resources={"limits": {"cpu": "0.5"}}), ingress={"host": "x.example", "routes": routes}
        )
        graph = sandbox.apply(value)
        settled(operator)
        children = sandbox.children()
        assert set(children) == {("ConfigMap", "cm-users"), ("Service", "svc-users"), ("Deployment", "deploy-users")}
        for obj in children.values():
            owner = obj["metadata"]["ownerReferences"]
            assert [(r["kind"], r["name"], r["uid"]) for r in owner] == [
                ("APIGraph", "env-1", graph["metadata"]["uid"])
            ]
            assert obj["metadata"]["labels"][names.LABEL_ENVIRONMENT] == "env-1"
            assert (names.MANAGER, "Apply") in {
                (m["manager"], m["operation"]) for m in obj["metadata"]["managedFields"]
            }
        status = wait("the status to be written", lambda: (sandbox.get("APIGraph", "env-1") or {}).get("status"))
        wait("Running to be written", lambda: sandbox.written_phase("env-1") == "Running")
        assert (status["observedGeneration"], status["buildId"]) == (1, "build-1")
        order = [(a["action"], a["resource_kind"]) for a in operator.actions()]
        assert order == [("Create", "ConfigMap"), ("Create", "Service"), ("Create", "Deployment")]
        versions = sandbox.versions()
        later(sandbox, operator)
        assert sandbox.versions().items() >= versions.items()
        assert len([a for a in operator.actions() if a["environment_id"] == "env-1"]) == 3
        wait("the Events", lambda: _reasons(sandbox) >= {"Applied", "Running"})


def _reasons(sandbox: Sandbox) -> set[str]:
    return {event["reason"] for event in sandbox.list("Event") if event["involvedObject"]["kind"] == "APIGraph"}


def test_r03_a_restart_makes_no_write(sandbox: Sandbox) -> None:
    """A new process lists, writes nothing at all, and goes on with status and routes from the APIGraphs."""
    routes = [{"path": "/users", "targetComponent": "users"}]
    with sandbox.operator() as operator:
        sandbox.apply(
            spec(idle(env={"A": "1"}, resources={"requests": {"memory": "1024Mi"}}), ingress={"routes": routes})
        )
        settled(operator)
        wait("Running to be written", lambda: sandbox.written_phase("env-1") == "Running")
        assert operator.end() == 0
    versions = sandbox.versions()
    with sandbox.operator(BUILDER_URL="http://127.0.0.1:1") as operator:
        settled(operator)
        assert len(operator.get("/v1/gateway-config")["routing"]["routes"]) == 1
        # One that is refused for its name has no objects, and its status is written once: then all before it is done.
        sandbox.apply(spec(idle("later"), environment="later"), "not-later")
        wait("the later one to be refused", lambda: sandbox.written_phase("not-later") == "Failed")
        assert [(a["action"], a["resource_name"]) for a in operator.actions()] == [("Refuse", "not-later")]
        assert operator.metric("turbo_operator_status_writes_total") == 1
    assert sandbox.versions().items() >= versions.items()


def test_r09_what_is_removed_from_the_spec_is_removed_from_the_objects(sandbox: Sandbox) -> None:
    """An environment variable, a limit, an annotation, a port and a component go when the spec loses them."""
    rich = idle(
        env={"A": "1", "B": "2"},
        resources={"requests": {"cpu": "10m"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        annotations={"example.com/note": "x", names.ANNOTATION_PROBE_PATH: "/healthz"},
    )
    routes = [{"path": "/users", "targetComponent": "users", "targetPort": 9000}]
    with sandbox.operator() as operator:
        sandbox.apply(spec(rich, idle("other"), ingress={"host": "x.example", "routes": routes}))
        settled(operator)
        sandbox.replace(spec(idle(env={"B": "2"}), build="build-2"))
        wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
        settled(operator)
        children = sandbox.children()
        assert {name for _, name in children} == {"cm-users", "svc-users", "deploy-users"}
        assert children["ConfigMap", "cm-users"]["data"] == {"B": "2"}
        assert [p["port"] for p in children["Service", "svc-users"]["spec"]["ports"]] == [8080]
        template = children["Deployment", "deploy-users"]["spec"]["template"]
        assert set(template["metadata"]["annotations"]) == {names.ANNOTATION_CONFIG_HASH}
        container = template["spec"]["containers"][0]
        assert container.get("resources", {}) == {}
        assert "readinessProbe" not in container
        assert len(container["ports"]) == 1


def test_r18_a_configuration_change_rolls_the_pods_once(sandbox: Sandbox) -> None:
    """A new value is one new revision, written after its ConfigMap; a new build alone is none."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle(env={"A": "1"})))
        settled(operator)
        generation = (sandbox.get("Deployment", "deploy-users") or {})["metadata"]["generation"]
        seen = len(operator.actions())
        sandbox.apply(spec(idle(env={"A": "2"}), build="build-2"))
        wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
        settled(operator)
        changes = [(a["resource_kind"], a["outcome"]) for a in operator.actions()[seen:]]
        assert changes == [("ConfigMap", "ok"), ("Deployment", "ok")]
        sandbox.apply(spec(idle(env={"A": "2"}), build="build-3"))
        wait("the next build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-3")
        settled(operator)
        assert (sandbox.get("Deployment", "deploy-users") or {})["metadata"]["generation"] == generation + 1


def test_r19_drift_is_repaired_and_foreign_fields_stay(sandbox: Sandbox) -> None:
    """Deleted and edited children are put right; a foreign annotation and data key survive."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle(env={"A": "1"})))
        settled(operator)
        sandbox.patch("ConfigMap", "cm-users", {"data": {"MINE": "x"}})
        sandbox.patch("Deployment", "deploy-users", {"metadata": {"annotations": {"someone.example/note": "mine"}}})
        for damage, healed in (
            (
                lambda: sandbox.patch("Deployment", "deploy-users", {"spec": {"replicas": 3}}),
                lambda: (sandbox.get("Deployment", "deploy-users") or {})["spec"]["replicas"] == 0,
            ),
            (lambda: sandbox.delete("Service", "svc-users"), lambda: sandbox.get("Service", "svc-users")),
            (
                lambda: sandbox.patch("ConfigMap", "cm-users", {"data": {"A": None}}),
                lambda: (sandbox.get("ConfigMap", "cm-users") or {})["data"].get("A") == "1",
            ),
            (
                lambda: sandbox.patch("ConfigMap", "cm-users", {"metadata": {"labels": None, "ownerReferences": None}}),
                lambda: (sandbox.get("ConfigMap", "cm-users") or {})["metadata"].get("ownerReferences"),
            ),
        ):
            damage()
            wait("the repair", healed, 30)
        assert (sandbox.get("ConfigMap", "cm-users") or {})["data"] == {"A": "1", "MINE": "x"}
        deployment = sandbox.get("Deployment", "deploy-users") or {}
        assert deployment["metadata"]["annotations"]["someone.example/note"] == "mine"
        settled(operator)


def test_r12_an_invalid_component_is_refused_by_the_status_not_by_admission(sandbox: Sandbox) -> None:
    """A graph with one unusable component is taken; the component is Refused and the other one is made."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(idle(resources={"requests": {"cpu": "lots"}}), idle("good")))
        settled(operator, phase="Degraded")
        wait("the good one", lambda: ("Deployment", "deploy-good") in sandbox.children())
        assert ("Deployment", "deploy-users") not in sandbox.children()
        written = wait("the status", lambda: (sandbox.get("APIGraph", "env-1") or {}).get("status"))
        assert "lots" in next(c["message"] for c in written["conditions"] if c["type"] == "Accepted")


def test_the_crd_refuses_what_no_operator_could_use(sandbox: Sandbox) -> None:
    """A changed environment id, a path without a slash, a negative replica count and a duplicate are refused."""
    sandbox.apply(spec(idle()))
    bad = [
        spec(idle(), environment="other"),
        spec(idle(), ingress={"routes": [{"path": "users", "targetComponent": "users"}]}),
        spec(idle(replicas=-1)),
        spec(idle(), idle()),
        {"environmentId": "env-1"},
    ]
    for value in bad:
        with pytest.raises(ApiError):
            sandbox.apply(value, "env-1")


def test_r26_a_large_graph_does_not_delay_a_small_one(sandbox: Sandbox) -> None:
    """One component is applied in turn with those that are in work, not after the 150 of another graph."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(*(idle(f"c{n}") for n in range(150)), environment="large"))
        wait("the first writes", lambda: len(operator.actions()) > 5)
        before = len(operator.actions())
        sandbox.apply(spec(idle("tiny"), environment="small"))
        wait("the small one", lambda: sandbox.get("Deployment", "deploy-tiny"), 60)
        wait("the large one", lambda: _writes(operator).count("large") >= 450, 120)
        order = _writes(operator)
        # In work are 16 components of three writes each; the rest is for the time until the watch tells.
        assert order.index("small") < before + 150, (before, order.index("small"), len(order))


def _writes(operator: OperatorProcess) -> list[str]:
    """The environment of each finished write, in order."""
    return [action["environment_id"] for action in operator.actions()]


class _Graphs(ThreadingHTTPServer):
    """A builder with a list of graphs."""

    daemon_threads = True
    graphs: list[Any]


class _GraphsHandler(BaseHTTPRequestHandler):
    server: _Graphs

    def do_GET(self) -> None:
        body = json.dumps({"graphs": self.server.graphs, "store": "s", "traceparents": {}}).encode()
        self.send_response(200)
        self.send_header("ETag", f'"{hash(body)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


def test_r15_the_builders_graphs_come_and_go(sandbox: Sandbox) -> None:
    """A graph of the builder becomes an APIGraph and its objects; taken away, all of it goes; a hand-made one stays."""
    server = _Graphs(("127.0.0.1", 0), _GraphsHandler)
    server.graphs = [spec(idle())]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        sandbox.apply(spec(idle("mine"), environment="mine"))
        with sandbox.operator(
            BUILDER_URL=f"http://127.0.0.1:{server.server_address[1]}", POLL_INTERVAL="500ms"
        ) as operator:
            settled(operator)
            settled(operator, "mine")
            server.graphs = [spec(idle(version="2.0.0", env={"A": "2"}), build="build-2")]
            wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
            settled(operator)
            assert (sandbox.get("ConfigMap", "cm-users") or {})["data"] == {"A": "2"}
            server.graphs = []
            wait("404", lambda: operator.client.get("/v1/status/env-1").status_code == 404, GC_S)
            assert operator.phase("mine") == "Running"
            assert {name for _, name in sandbox.children()} == {"cm-mine", "svc-mine", "deploy-mine"}
    finally:
        server.shutdown()
        server.server_close()


def test_a_graph_is_written_over_http_again_and_again(sandbox: Sandbox) -> None:
    """POST /v1/reconcile replaces the whole spec, also while statuses are being written; DELETE ends it."""
    with sandbox.operator() as operator:
        for n in range(6):
            value = spec(idle(env={f"K{n}": "x"}), build=f"build-{n}")
            reply = operator.client.post("/v1/reconcile", json=value)
            assert reply.status_code == 200, reply.text
            assert reply.json()["status"]["buildId"] == f"build-{n}"
        settled(operator)
        assert (sandbox.get("ConfigMap", "cm-users") or {})["data"] == {"K5": "x"}
        assert operator.client.post("/v1/reconcile", json=spec(idle(), unknown=1)).status_code == 400
        assert operator.client.delete("/v1/environments/env-1").status_code == 202
        wait("404", lambda: operator.client.get("/v1/status/env-1").status_code == 404, GC_S)
        assert not sandbox.children()
