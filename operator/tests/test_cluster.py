"""The operator as a process, with its own rights, against a real API server with its controllers."""

import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ControlPlane
from sandbox import OperatorProcess, Sandbox, make_sandbox, wait
from specs import component, spec

from turbo_operator.core import names
from turbo_operator.kube.client import ApiError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
_numbers = itertools.count(1)


@pytest.fixture
def sandbox(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Sandbox]:
    """A namespace of its own."""
    made = make_sandbox(control_plane.kubeconfig, f"operator-{int(time.time())}-{next(_numbers)}", tmp_path)
    yield made
    made.admin.request("DELETE", f"/api/v1/namespaces/{made.namespace}")


def _idle(package: str = "users", version: str = "1.0.0", **runtime: Any) -> dict[str, Any]:
    """A component without pods: there is no node to run them."""
    return component(package, version, **{"replicas": 0, **runtime})


def _settled(operator: OperatorProcess, environment_id: str = "env-1", phase: str = "Running") -> None:
    wait(f"{environment_id} to be {phase}", lambda: operator.phase(environment_id) == phase)


def test_a_graph_applied_by_hand_becomes_objects_and_an_earned_status(sandbox: Sandbox) -> None:
    """ConfigMap, Service and Deployment appear by server-side apply, owned by the graph; then nothing more is done."""
    with sandbox.operator() as operator:
        routes = [{"path": "/users", "targetComponent": "users"}]
        value = spec(
            _idle(env={"A": "1"}, resources={"limits": {"cpu": "0.5"}}), ingress={"host": "x.example", "routes": routes}
        )
        graph = sandbox.apply(value)
        _settled(operator)
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
        time.sleep(1.5)
        assert sandbox.versions() == versions
        assert len(operator.actions()) == 3
        reasons = {event["reason"] for event in sandbox.list("Event") if event["involvedObject"]["kind"] == "APIGraph"}
        assert reasons >= {"Applied", "Running"}


def test_r03_a_restart_makes_no_write(sandbox: Sandbox) -> None:
    """A new process lists, writes nothing at all, and goes on with status and routes from the APIGraphs."""
    routes = [{"path": "/users", "targetComponent": "users"}]
    with sandbox.operator() as operator:
        sandbox.apply(
            spec(_idle(env={"A": "1"}, resources={"requests": {"memory": "1024Mi"}}), ingress={"routes": routes})
        )
        _settled(operator)
        wait("Running to be written", lambda: sandbox.written_phase("env-1") == "Running")
        assert operator.end() == 0
    versions = sandbox.versions()
    with sandbox.operator(BUILDER_URL="http://127.0.0.1:1") as operator:
        _settled(operator)
        assert len(operator.get("/v1/gateway-config")["routing"]["routes"]) == 1
        time.sleep(1)
        assert operator.actions() == []
        assert operator.metric("turbo_operator_status_writes_total") == 0
    assert sandbox.versions() == versions


def test_r09_what_is_removed_from_the_spec_is_removed_from_the_objects(sandbox: Sandbox) -> None:
    """An environment variable, a limit, an annotation, a port and a component go when the spec loses them."""
    rich = _idle(
        env={"A": "1", "B": "2"},
        resources={"requests": {"cpu": "10m"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        annotations={"example.com/note": "x", names.ANNOTATION_PROBE_PATH: "/healthz"},
    )
    routes = [{"path": "/users", "targetComponent": "users", "targetPort": 9000}]
    with sandbox.operator() as operator:
        sandbox.apply(spec(rich, _idle("other"), ingress={"host": "x.example", "routes": routes}))
        _settled(operator)
        sandbox.replace(spec(_idle(env={"B": "2"}), build="build-2"))
        wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
        _settled(operator)
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


def test_r14_a_foreign_object_is_never_touched(sandbox: Sandbox) -> None:
    """A foreign Service stays as it is; when it goes, exactly one of two graphs that want its name gets all of it."""
    foreign = {"metadata": {"name": "svc-users"}, "spec": {"ports": [{"port": 1}]}}
    version = sandbox.create("Service", foreign)["metadata"]["resourceVersion"]
    with sandbox.operator() as operator:
        sandbox.apply(spec(_idle()))
        _settled(operator, phase="Degraded")
        time.sleep(1)
        assert (sandbox.get("Service", "svc-users") or {})["metadata"]["resourceVersion"] == version
        row = operator.get("/v1/status/env-1")["componentStatuses"][0]
        assert row["phase"] == "Conflict"
        assert [a["action"] for a in operator.actions() if a["resource_name"] == "svc-users"] == ["Conflict"]
        sandbox.apply(spec(_idle(), environment="env-2"))
        _settled(operator, "env-2", "Degraded")
        sandbox.delete("Service", "svc-users")
        both = ("env-1", "env-2")
        wait("one winner", lambda: sorted(str(operator.phase(e)) for e in both) == ["Degraded", "Running"])
        owners = {obj["metadata"]["ownerReferences"][0]["name"] for obj in sandbox.children().values()}
        assert [operator.phase(owner) for owner in owners] == ["Running"]


def test_r18_a_configuration_change_rolls_the_pods_once(sandbox: Sandbox) -> None:
    """A new value is one new revision, written after its ConfigMap; a new build alone is none."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(_idle(env={"A": "1"})))
        _settled(operator)
        generation = (sandbox.get("Deployment", "deploy-users") or {})["metadata"]["generation"]
        seen = len(operator.actions())
        sandbox.apply(spec(_idle(env={"A": "2"}), build="build-2"))
        wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
        _settled(operator)
        changes = [(a["resource_kind"], a["outcome"]) for a in operator.actions()[seen:]]
        assert changes == [("ConfigMap", "ok"), ("Deployment", "ok")]
        sandbox.apply(spec(_idle(env={"A": "2"}), build="build-3"))
        wait("the next build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-3")
        _settled(operator)
        assert (sandbox.get("Deployment", "deploy-users") or {})["metadata"]["generation"] == generation + 1


def test_r19_drift_is_repaired_and_foreign_fields_stay(sandbox: Sandbox) -> None:
    """Deleted and edited children are put right within two seconds; a foreign annotation and data key survive."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(_idle(env={"A": "1"})))
        _settled(operator)
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
        _settled(operator)


def test_r20_deleting_the_graph_removes_its_children_with_the_operator_down(sandbox: Sandbox) -> None:
    """Garbage collection does it; a running operator says Deleting until nothing is left, then 404."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(_idle()))
        sandbox.apply(spec(_idle("other"), environment="env-2"))
        _settled(operator)
        _settled(operator, "env-2")
        sandbox.delete("APIGraph", "env-2")
        wait("404", lambda: operator.client.get("/v1/status/env-2").status_code == 404)
        assert not {key for key in sandbox.children() if "other" in key[1]}
        operator.end(signal.SIGKILL)
    sandbox.delete("APIGraph", "env-1")
    wait("the children to go", lambda: not sandbox.children())


def _wait_for_writes(operator: OperatorProcess, writes: int) -> None:
    wait("some writes", lambda: len(operator.actions()) >= writes or operator.phase("env-1") == "Running")


def test_r02_killed_again_and_again_during_an_update_it_ends_where_it_should(sandbox: Sandbox) -> None:
    """SIGKILL at three moments of an update of 20 components, then one undisturbed run: all is as the new spec says."""
    sandbox.apply(spec(*(_idle(f"c{n}", env={"A": "1"}) for n in range(20))))
    with sandbox.operator() as operator:
        _settled(operator)
    sandbox.apply(spec(*(_idle(f"c{n}", "2.0.0", env={"A": "2"}) for n in range(5, 25)), build="build-2"))
    for writes in (1, 7, 20):
        with sandbox.operator() as operator:
            _wait_for_writes(operator, writes)
            operator.end(signal.SIGKILL)
    with sandbox.operator() as operator:
        wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
        _settled(operator)
        children = sandbox.children()
        expected = {f"{prefix}c{n}" for prefix in names.PREFIXES.values() for n in range(5, 25)}
        assert {name for _, name in children} == expected
        for (kind, _), obj in children.items():
            if kind == "ConfigMap":
                assert obj["data"] == {"A": "2"}
            if kind == "Deployment":
                assert obj["metadata"]["annotations"][names.ANNOTATION_PACKAGE_VERSION] == "2.0.0"


def test_r22_an_api_outage_makes_it_unready_and_it_recovers(control_plane: ControlPlane, sandbox: Sandbox) -> None:
    """Without an API server the operator is alive and not ready; with it back it works on without a restart."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(_idle()))
        _settled(operator)
        control_plane.kill("kube-apiserver")
        wait("not ready", lambda: operator.client.get("/readyz").status_code == 503, 10)
        assert operator.client.get("/healthz").status_code == 200
        assert operator.client.get("/v1/status/env-1").status_code == 200
        wait("ready", lambda: operator.client.get("/readyz").status_code == 200)
        sandbox.patch("Deployment", "deploy-users", {"spec": {"replicas": 2}})
        wait("the repair", lambda: (sandbox.get("Deployment", "deploy-users") or {})["spec"]["replicas"] == 0)
        _settled(operator)


def test_r12_an_invalid_component_is_refused_by_the_status_not_by_admission(sandbox: Sandbox) -> None:
    """A graph with one unusable component is taken; the component is Refused and the other one is made."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(_idle(resources={"requests": {"cpu": "lots"}}), _idle("good")))
        _settled(operator, phase="Degraded")
        wait("the good one", lambda: ("Deployment", "deploy-good") in sandbox.children())
        assert ("Deployment", "deploy-users") not in sandbox.children()
        written = wait("the status", lambda: (sandbox.get("APIGraph", "env-1") or {}).get("status"))
        assert "lots" in next(c["message"] for c in written["conditions"] if c["type"] == "Accepted")


def test_the_crd_refuses_what_no_operator_could_use(sandbox: Sandbox) -> None:
    """A changed environment id, a path without a slash, a negative replica count and a duplicate are refused."""
    sandbox.apply(spec(_idle()))
    bad = [
        spec(_idle(), environment="other"),
        spec(_idle(), ingress={"routes": [{"path": "users", "targetComponent": "users"}]}),
        spec(_idle(replicas=-1)),
        spec(_idle(), _idle()),
        {"environmentId": "env-1"},
    ]
    for value in bad:
        with pytest.raises(ApiError):
            sandbox.apply(value, "env-1")


def test_r26_a_large_graph_does_not_delay_a_small_one(sandbox: Sandbox) -> None:
    """One component is applied while 150 of another graph are on their way."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(*(_idle(f"c{n}") for n in range(150)), environment="large"))
        wait("the first writes", lambda: len(operator.actions()) > 5)
        sandbox.apply(spec(_idle("tiny"), environment="small"))
        wait("the small one", lambda: sandbox.get("Deployment", "deploy-tiny"), 60)
        wait("the large one", lambda: _writes(operator).count("large") >= 450, 120)
        order = _writes(operator)
        assert order.index("small") < len(order) - 1 - order[::-1].index("large")


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
    server.graphs = [spec(_idle())]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        sandbox.apply(spec(_idle("mine"), environment="mine"))
        with sandbox.operator(
            BUILDER_URL=f"http://127.0.0.1:{server.server_address[1]}", POLL_INTERVAL="500ms"
        ) as operator:
            _settled(operator)
            _settled(operator, "mine")
            server.graphs = [spec(_idle(version="2.0.0", env={"A": "2"}), build="build-2")]
            wait("the new build", lambda: operator.get("/v1/status/env-1")["buildId"] == "build-2")
            _settled(operator)
            assert (sandbox.get("ConfigMap", "cm-users") or {})["data"] == {"A": "2"}
            server.graphs = []
            wait("404", lambda: operator.client.get("/v1/status/env-1").status_code == 404)
            assert operator.phase("mine") == "Running"
            assert {name for _, name in sandbox.children()} == {"cm-mine", "svc-mine", "deploy-mine"}
    finally:
        server.shutdown()
        server.server_close()


def test_a_graph_is_written_over_http_again_and_again(sandbox: Sandbox) -> None:
    """POST /v1/reconcile replaces the whole spec, also while statuses are being written; DELETE ends it."""
    with sandbox.operator() as operator:
        for n in range(6):
            value = spec(_idle(env={f"K{n}": "x"}), build=f"build-{n}")
            reply = operator.client.post("/v1/reconcile", json=value)
            assert reply.status_code == 200, reply.text
            assert reply.json()["status"]["buildId"] == f"build-{n}"
        _settled(operator)
        assert (sandbox.get("ConfigMap", "cm-users") or {})["data"] == {"K5": "x"}
        assert operator.client.post("/v1/reconcile", json=spec(_idle(), unknown=1)).status_code == 400
        assert operator.client.delete("/v1/environments/env-1").status_code == 202
        wait("404", lambda: operator.client.get("/v1/status/env-1").status_code == 404)
        assert not sandbox.children()


def test_r23_sigterm_ends_in_order(sandbox: Sandbox) -> None:
    """In the middle of an apply the operator finishes the writes in flight and exits 0 within ten seconds."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(*(_idle(f"c{n}") for n in range(60))))
        wait("the first writes", lambda: len(operator.actions()) > 5)
        started = time.monotonic()
        assert operator.end() == 0
        assert time.monotonic() - started <= 12
        actions = operator.actions()
        assert [a["seq"] for a in actions] == list(range(1, len(actions) + 1))
        assert {a["outcome"] for a in actions} == {"ok"}
        assert len(sandbox.children()) == len(actions)
