"""The HTTP API: the same in dev mode, in k8s mode against the real API server, and in k8s mode against the fake."""

import contextlib
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_apiserver import fake_sandbox
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from sandbox import Sandbox, wait
from serving import running, serving
from specs import component, spec

from turbo_operator import api
from turbo_operator.__main__ import listen
from turbo_operator.actions import ActionLog
from turbo_operator.api import LARGEST_BODY, MOST_POSTS
from turbo_operator.applier import Result
from turbo_operator.core.names import graph_name
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import Action
from turbo_operator.graphs import GraphChange
from turbo_operator.logs import JsonFormatter
from turbo_operator.openapi import document
from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings


def _k8s(sandbox: Sandbox) -> Settings:
    return Settings(mode="k8s", namespace=sandbox.namespace, kubeconfig=str(sandbox.kubeconfig))


_CLUSTER = [pytest.mark.cluster, pytest.mark.timeout(180)]


@pytest.fixture(params=["fake", pytest.param("real", marks=_CLUSTER)])
def cluster_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of k8s mode, for either API server."""
    if request.param == "real":
        yield _k8s(request.getfixturevalue("sandbox"))
    else:
        with fake_sandbox(tmp_path) as (_, sandbox):
            yield _k8s(sandbox)


@pytest.fixture(params=["dev", "fake", pytest.param("real", marks=_CLUSTER)])
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Operator]:
    """A running operator in each mode."""
    with contextlib.ExitStack() as stack:
        settings = Settings()
        if request.param == "fake":
            settings = _k8s(stack.enter_context(fake_sandbox(tmp_path))[1])
        elif request.param == "real":
            settings = _k8s(request.getfixturevalue("sandbox"))
        yield stack.enter_context(running(settings))


@pytest.fixture
def client(operator: Operator) -> Iterator[httpx.Client]:
    """A client of its API."""
    with serving(operator) as client:
        yield client


@pytest.fixture
def dev_client() -> Iterator[httpx.Client]:
    """A client of an operator in dev mode, for what no mode has a part in."""
    with running(Settings()) as operator, serving(operator) as client:
        yield client


def _idle(package: str = "users", **runtime: Any) -> dict[str, Any]:
    """A component without pods: the control plane has no node to run them."""
    return component(package, **{"replicas": 0, **runtime})


def _reconcile(client: httpx.Client, value: Any) -> Any:
    reply = client.post("/v1/reconcile", json=value)
    assert reply.status_code == 200, reply.text
    return reply.json()


def _settled(client: httpx.Client, phase: str = "Running", environment_id: str = "env-1") -> Any:
    """The status once it has a phase: dev mode simulates it at once, in k8s mode it is earned."""

    def told() -> Any:
        status = client.get(f"/v1/status/{environment_id}").json()
        return status if status.get("phase") == phase else None

    return wait(f"{environment_id} to be {phase}", told)


def test_r08_a_graph_deleted_in_the_middle_of_its_writes_leaves_nothing_in_dev_mode() -> None:
    """What is written for a graph that goes at this moment is not kept, so that another environment may have it."""
    with running(Settings()) as operator, serving(operator) as client:
        memory = operator._memory
        assert memory is not None
        write = memory.write

        def deleted_meanwhile(action: Action) -> Result:
            if action.kind == "Service":
                memory.write = write  # type: ignore[method-assign]
                operator.delete("env-1")
            return write(action)

        memory.write = deleted_meanwhile  # type: ignore[method-assign]
        client.post("/v1/reconcile", json=spec(component()))
        assert memory.objects == {}
        assert client.get("/v1/status/env-1").status_code == 404
        assert _reconcile(client, spec(component(), environment="env-2"))["status"]["phase"] == "Running"


def _graphs_by_phase(client: httpx.Client) -> dict[str, float]:
    """What /metrics counts, without the phases of no graph."""
    found = re.findall(r'^turbo_operator_graphs{phase="(\w+)"} (\S+)$', client.get("/metrics").text, re.MULTILINE)
    return {phase: float(count) for phase, count in found if float(count)}


def test_the_metrics_count_graphs_by_phase(client: httpx.Client) -> None:
    """Each graph is counted in the phase that it is in when somebody asks."""
    for environment in ("env-1", "env-2"):
        _reconcile(client, spec(_idle(f"of-{environment}"), environment=environment))
        _settled(client, "Running", environment)
    _reconcile(client, spec(_idle("bad", resources={"requests": {"cpu": "lots"}}), environment="env-3"))
    _settled(client, "Degraded", "env-3")
    wait("the counts", lambda: _graphs_by_phase(client) == {"Running": 2, "Degraded": 1})
    client.delete("/v1/environments/env-3")
    wait("one less", lambda: _graphs_by_phase(client) == {"Running": 2})


def test_an_environment_is_reached_under_its_own_id_only(dev_client: httpx.Client) -> None:
    """The name that the APIGraph of "Demo One" has to bear is no second id of it, to read, delete or take it over."""
    _reconcile(dev_client, spec(component(), environment="Demo One"))
    name = graph_name("Demo One")
    assert dev_client.get("/v1/status/Demo One").json()["environmentId"] == "Demo One"
    assert dev_client.get(f"/v1/status/{name}").status_code == 404
    assert dev_client.delete(f"/v1/environments/{name}").status_code == 404
    taken = dev_client.post("/v1/reconcile", json=spec(component(), environment=name))
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "conflict")
    assert "'Demo One'" in taken.json()["error"]["message"]
    environments = dev_client.get("/v1/status").json()["environments"]
    assert [each["environmentId"] for each in environments] == ["Demo One"]
    assert dev_client.delete("/v1/environments/Demo One").status_code == 202
    assert dev_client.get("/v1/status/Demo One").status_code == 404


def test_a_graph_under_a_wrong_name_does_not_speak_for_another_environment(
    client: httpx.Client, operator: Operator
) -> None:
    """It is reported and deleted under its own name; the environment that it names is the other graph's alone."""
    _reconcile(client, spec(_idle()))
    _settled(client)
    kind = {"apiVersion": "turboengine.io/v1", "kind": "APIGraph"}
    operator._writer.write(GraphChange("Create", {**kind, "metadata": {"name": "aaa"}, "spec": spec(_idle("x"))}))
    told = _settled(client, "Failed", "aaa")
    assert told["environmentId"] == "aaa"
    assert "'env-1'" in told["conditions"][0]["message"]
    environments = client.get("/v1/status").json()["environments"]
    assert [(each["environmentId"], each["phase"]) for each in environments] == [
        ("aaa", "Failed"),
        ("env-1", "Running"),
    ]
    assert "Refuse" not in {
        record["action"] for record in client.get("/v1/actions?environment=env-1").json()["actions"]
    }
    assert client.delete("/v1/environments/env-1").status_code == 202
    assert client.get("/v1/status/aaa").json()["phase"] == "Failed"


def test_a_graph_is_carried_out_and_told(client: httpx.Client, operator: Operator) -> None:
    """POST /v1/reconcile gives the finished actions and a status, simulated or earned; again it does nothing."""
    value = spec(_idle(), ingress={"host": "a.example.com", "routes": [{"path": "/u", "targetComponent": "users"}]})
    first = _reconcile(client, value)
    told = [(a["action"], a["resource_kind"], a["http_status"], a["outcome"]) for a in first["actions"]]
    told.remove(("Create", "APIGraph", 201, "ok"))  # the watch may show the graph before its own answer comes
    assert told == [("Create", kind, 201, "ok") for kind in ("ConfigMap", "Service", "Deployment")]
    assert first["status"]["phase"] in (
        {"Running"} if operator.mode == "dev" else {"Reconciling", "Deploying", "Running"}
    )
    status = _settled(client)
    assert ("simulated" in status["componentStatuses"][0].get("message", "")) == (operator.mode == "dev")
    assert _reconcile(client, value)["actions"] == []
    assert (status["environmentId"], status["buildId"], status["rootPackage"]) == ("env-1", "build-1", "users")
    assert client.get("/v1/status").json() == {"environments": [client.get("/v1/status/env-1").json()]}


def test_a_traceparent_is_continued(client: httpx.Client) -> None:
    """Actions belong to the trace of the request that caused them."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    reply = client.post("/v1/reconcile", json=spec(_idle()), headers=headers)
    assert {a["trace_id"] for a in reply.json()["actions"]} == {trace_id}


def test_actions_are_numbered_without_gaps_and_filtered(client: httpx.Client) -> None:
    """Sequence numbers count up by one; `since` and `environment` choose."""
    _reconcile(client, spec(_idle()))
    _reconcile(client, spec(_idle("other"), environment="env-2"))
    everything = client.get("/v1/actions").json()
    assert [a["seq"] for a in everything["actions"]] == list(range(1, everything["newest"] + 1))
    keys = {"event", "environment_id", "action", "resource_kind", "resource_name", "fields", "reason", "outcome"}
    assert everything["actions"][0].keys() >= keys | {"http_status", "duration_ms", "trace_id", "span_id", "time"}
    assert len(client.get("/v1/actions?since=6").json()["actions"]) == everything["newest"] - 6
    assert {a["environment_id"] for a in client.get("/v1/actions?environment=env-2").json()["actions"]} == {"env-2"}


def test_actions_say_how_far_back_they_go_and_whose_numbers_they_are(client: httpx.Client, operator: Operator) -> None:
    """A client whose `since` is of another process, or older than what is kept, can tell from the answer."""
    operator.actions = ActionLog(kept=2)
    empty = client.get("/v1/actions").json()
    assert (empty["newest"], empty["oldest"], empty["actions"]) == (0, 0, [])
    for name in ("cm-a", "cm-b", "cm-c"):
        operator.actions.record("env-1", Action("Create", "ConfigMap", name, "a", "missing"), "ok")
    page = client.get("/v1/actions?since=500").json()
    assert (page["newest"], page["oldest"], page["actions"]) == (3, 2, [])
    assert (page["instance"], page["started"]) == (socket.gethostname(), operator.actions.started)
    assert page["started"] == empty["started"]


def test_an_environment_is_deleted_with_its_objects(client: httpx.Client) -> None:
    """DELETE answers 202, then the environment is Deleting and soon unknown, and its names are free for another."""
    _reconcile(client, spec(_idle()))
    deleted = client.delete("/v1/environments/env-1")
    assert (deleted.status_code, deleted.json()) == (202, {"environmentId": "env-1", "phase": "Deleting"})
    status = client.get("/v1/status/env-1")
    assert status.status_code == 404 or status.json()["phase"] == "Deleting"
    # The real garbage collector looks for new kinds every half minute.
    wait("the environment to be gone", lambda: client.get("/v1/status/env-1").status_code == 404, 90)
    assert client.delete("/v1/environments/env-1").status_code == 404
    assert client.get("/v1/status").json() == {"environments": []}
    _reconcile(client, spec(_idle(), environment="env-2"))
    _settled(client, environment_id="env-2")


def test_the_gateways_configuration_can_be_waited_for(client: httpx.Client) -> None:
    """An ETag gives 304, a held request is answered by a change at once, and an unchanged one after its wait."""
    empty = client.get("/v1/gateway-config")
    assert empty.json() == {"routing": {"routes": []}, "poll_interval_secs": 5}
    known = {"If-None-Match": empty.headers["etag"]}
    assert client.get("/v1/gateway-config", headers=known).status_code == 304
    started = time.monotonic()
    held = client.get("/v1/gateway-config", headers={**known, "Prefer": "wait=1"})
    assert held.status_code == 304
    assert held.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - started >= 1
    value = spec(_idle(), ingress={"routes": [{"path": "/u", "targetComponent": "users"}]})
    later = threading.Timer(0.3, lambda: _reconcile(client, value))
    later.start()
    started = time.monotonic()
    woken = client.get("/v1/gateway-config", headers={**known, "Prefer": "wait=20"})
    assert woken.json()["routing"]["routes"][0]["upstream_url"] == "http://svc-users:8080"
    assert time.monotonic() - started < 10
    later.join()


_WRONG: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/v1/nothing", {}, 404, "not_found"),
    ("GET", "/v1/status/nobody", {}, 404, "not_found"),
    ("PUT", "/v1/reconcile", {}, 405, "method_not_allowed"),
    ("POST", "/v1/reconcile", {"content": b"{}"}, 415, "unsupported_media_type"),
    ("POST", "/v1/reconcile", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
    ("POST", "/v1/reconcile", {"json": {"environmentId": "x"}}, 400, "invalid_graph"),
    ("POST", "/v1/reconcile", {"json": {**spec(), "colour": 1}}, 400, "invalid_graph"),
    ("GET", "/v1/actions?since=x", {}, 400, "invalid_parameter"),
    ("GET", "/v1/actions?sinse=1", {}, 400, "unknown_parameter"),
]


def test_answers_do_not_wait_for_a_clients_late_acknowledgement() -> None:
    """Nagle's algorithm is off: with it each answer on a connection that is kept takes 40 ms."""
    with (
        listen(Settings(host="127.0.0.1", port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_errors_have_one_form(client: httpx.Client) -> None:
    """Every error is a status, a code and a sentence; 405 names what is allowed."""
    for method, path, more, status, code in _WRONG:
        reply = client.request(method, path, **more)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), (method, path, reply.text)
        assert reply.json()["error"]["message"]
        if status == 405:
            assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**spec(component()), "\ud800": 1}).encode(),
        json.dumps(spec(component("\udfff"), component())).encode(),
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"\xff\xfe",
    ],
    ids=["half a pair as a key", "half a pair in a name", "deep lists", "deep objects", "not UTF-8"],
)
def test_json_that_cannot_be_used_is_the_callers_mistake(dev_client: httpx.Client, body: bytes) -> None:
    """What has no meaning or no end is 400, and leaves every later answer as it is."""
    reply = dev_client.post("/v1/reconcile", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
    assert dev_client.get("/v1/status").json() == {"environments": []}
    pair = json.dumps(spec(component(env={"A": "\U0001f600"})))  # a whole pair, in escapes
    assert (
        dev_client.post("/v1/reconcile", content=pair, headers={"content-type": "application/json"}).status_code == 200
    )


def test_a_body_beyond_four_mebibytes_is_refused(dev_client: httpx.Client) -> None:
    """What is too large is not read to its end."""
    body = b" " * (LARGEST_BODY + 1)
    reply = dev_client.post("/v1/reconcile", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")


def test_reads_are_answered_while_a_large_graph_is_checked(
    dev_client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checking a posted graph takes a while for a large one: probes and reads do not wait for it."""
    checked = threading.Event()

    def check(spec: Any) -> Any:
        checked.wait(60)
        return normalize(spec)

    monkeypatch.setattr(api, "normalize", check)
    with ThreadPoolExecutor(1) as posting:
        posted = posting.submit(dev_client.post, "/v1/reconcile", json=spec(component()))
        try:
            for path in ("/healthz", "/readyz", "/v1/status", "/v1/actions", "/v1/gateway-config", "/metrics"):
                assert dev_client.get(path).status_code == 200
            assert not posted.done()
        finally:
            checked.set()
        assert posted.result().status_code == 200


def test_posts_that_wait_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many graphs are posted at a time, reads and deletions are answered, and so is a post too many."""
    free = threading.Event()

    def reconcile(*_: Any) -> Any:
        free.wait(60)
        return [], {}

    with running(Settings()) as operator, serving(operator) as client, ThreadPoolExecutor(MOST_POSTS + 1) as posting:
        _reconcile(client, spec(component()))
        monkeypatch.setattr(operator, "reconcile", reconcile)
        try:
            posts = [
                posting.submit(client.post, "/v1/reconcile", json=spec(component())) for _ in range(MOST_POSTS + 1)
            ]
            refused = next(as_completed(posts, 60)).result()
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
            assert client.get("/v1/status").status_code == 200
            assert client.delete("/v1/environments/env-1").status_code == 202
            assert sum(post.done() for post in posts) == 1
        finally:
            free.set()
        assert sorted(post.result().status_code for post in posts) == [200] * MOST_POSTS + [503]
        assert client.post("/v1/reconcile", json=spec(component())).status_code == 200


def test_an_invalid_component_is_told_and_the_rest_runs(client: httpx.Client) -> None:
    """A graph with one bad component is taken; its status and actions name the refusal."""
    reply = _reconcile(client, spec(_idle("good"), _idle("bad", resources={"requests": {"cpu": "lots"}})))
    assert reply["status"]["phase"] == "Degraded"

    def phases() -> dict[str, str]:
        rows = client.get("/v1/status/env-1").json()["componentStatuses"]
        return {row["packageName"]: row["phase"] for row in rows}

    wait("the good one", lambda: phases() == {"good": "Running", "bad": "Refused"})
    assert client.get("/v1/status/env-1").json()["phase"] == "Degraded"
    refused = [
        (a["resource_kind"], a["resource_name"], a["reason"]) for a in reply["actions"] if a["action"] == "Refuse"
    ]
    assert [(kind, name, reason.partition(": ")[0]) for kind, name, reason in refused] == [("APIGraph", "env-1", "bad")]


def test_r22_health_and_readiness(client: httpx.Client, operator: Operator) -> None:
    """A running operator is alive and ready; a stopping one is alive and not ready."""
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["mode"]) == (200, operator.mode)
    watched = {check for check in ready.json()["checks"] if check.startswith("watch-")}
    assert len(watched) == (0 if operator.mode == "dev" else 4)
    assert "turbo_operator_actions_total" in client.get("/metrics").text
    assert operator.stop(5)
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_nothing_is_said_before_the_caches_are_synced() -> None:
    """An operator that has not listed yet answers 503, not "unknown" and not an empty route table."""
    with serving(Operator(Settings())) as client:
        for path in ("/v1/status", "/v1/status/x", "/v1/gateway-config"):
            reply = client.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_ready")
        assert client.get("/readyz").status_code == 503


def test_openapi_names_every_route(dev_client: httpx.Client) -> None:
    """The document has all paths of the API and is served."""
    served = dev_client.get("/openapi.json").json()
    assert served == json.loads(json.dumps(document()))
    assert set(served["paths"]) == {
        "/v1/reconcile",
        "/v1/status",
        "/v1/status/{environmentId}",
        "/v1/gateway-config",
        "/v1/actions",
        "/v1/environments/{environmentId}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }


_VOLATILE = {"time", "trace_id", "span_id", "duration_ms", "lastTransitionTime", "seq"}
_SERVERS = {"fields"}
"""Dev mode keeps no lists by their keys: it names the list where a server names the item."""


def _lasting(value: Any) -> Any:
    """Without what differs between two runs, and what differs by right between the modes."""
    if isinstance(value, dict):
        if value.get("reason") == "Simulated":
            value = {**value, "reason": "AllAvailable"}
        if str(value.get("message")).startswith("simulated:"):
            value = (
                {**value, "message": ""} if "reason" in value else {k: v for k, v in value.items() if k != "message"}
            )
        return {key: _lasting(part) for key, part in value.items() if key not in _VOLATILE | _SERVERS}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def _story(client: httpx.Client) -> list[Any]:
    """All that the API tells while an environment is made, changed, refused in part and deleted."""
    routes = [{"path": "/u", "targetComponent": "users"}]
    steps = [
        (spec(_idle(env={"A": "1"}), _idle("other"), ingress={"host": "a.example.com", "routes": routes}), "Running"),
        (spec(_idle(env={"A": "2"}), _idle("new"), build="build-2"), "Running"),
        (spec(_idle(env={"A": "2"}), _idle("new", resources={"requests": {"cpu": "x"}}), build="build-3"), "Degraded"),
        (spec(_idle("new"), build="build-4"), "Running"),
    ]
    told: list[Any] = []
    for value, phase in steps:
        reply = _reconcile(client, value)
        actions = sorted(reply["actions"], key=lambda a: (a["action"], a["resource_kind"], a["resource_name"]))
        told += [actions, _settled(client, phase), client.get("/v1/status").json()]
        config = client.get("/v1/gateway-config")
        told += [config.json(), config.headers["etag"], config.headers["cache-control"]]
    told += [client.post("/v1/reconcile", json={"environmentId": "env-1"}).json()]
    told += [client.get("/v1/actions").json()["newest"]]
    deleted = client.delete("/v1/environments/env-1")
    told += [deleted.status_code, deleted.json()]
    wait("the environment to be gone", lambda: client.get("/v1/status/env-1").status_code == 404, 90)
    told += [client.get("/v1/status/env-1").json(), client.delete("/v1/environments/env-1").json()]
    told += [client.get("/v1/gateway-config").json(), client.get("/v1/status").json()]
    return told


def test_both_modes_tell_the_same_story(cluster_settings: Settings) -> None:
    """The same requests get the same answers, but for times, ids and the note that dev mode simulates."""
    with running(Settings()) as operator, serving(operator) as client:
        simulated = _lasting(_story(client))
    with running(cluster_settings) as operator, serving(operator) as client:
        earned = _lasting(_story(client))
    for n, (one, other) in enumerate(zip(simulated, earned, strict=True)):
        assert one == other, n


def test_the_api_keeps_to_its_openapi(client: httpx.Client) -> None:
    """Generated requests get answers that the operator's own description promises, and never a 500."""
    import schemathesis  # noqa: PLC0415 - a second of imports
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.core.result import Ok  # noqa: PLC0415
    from schemathesis.specs.openapi.checks import (  # noqa: PLC0415
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    schema.config.update(base_url=str(client.base_url).rstrip("/"))
    for operation in schema.get_all_operations():
        assert isinstance(operation, Ok), operation
        _generate(operation.ok(), checks)


def _generate(operation: Any, checks: list[Any]) -> None:
    @given(operation.as_strategy())
    @hypothesis_settings(max_examples=8, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    def one(case: Any) -> None:
        case.call_and_validate(checks=checks, timeout=30)

    one()


@pytest.mark.parametrize("verb", ["Create", "Update", "Delete"])
def test_r16_a_refused_write_of_an_apigraph_is_an_action(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the API server refuses of a request is answered with its status, and stands in the log as failed."""
    with running(Settings()) as operator, serving(operator) as client:
        if verb != "Create":
            _reconcile(client, spec(component()))
        refusal = Result("failed", 422, message="by a policy", refused=True)
        monkeypatch.setattr(operator._writer, "write", lambda _: refusal)
        if verb == "Delete":
            reply = client.delete("/v1/environments/env-1")
        else:
            reply = client.post("/v1/reconcile", json=spec(component(), build="build-2"))
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, "refused")
        newest = client.get("/v1/actions").json()["actions"][-1]
    told = {"action": verb, "resource_kind": "APIGraph", "outcome": "failed", "http_status": 422}
    assert {key: newest[key] for key in told} == told
    assert "by a policy" in newest["reason"]


def test_text_that_nobody_can_write_spoils_no_answer(operator: Operator) -> None:
    """Half a surrogate pair is refused in each form it can come in; one in a record is replaced when it is told."""
    with serving(operator) as client:
        headers = {"content-type": "application/json"}
        for half in (b"\\ud800", b"\xed\xa0\x80"):
            body = json.dumps(spec(component(), environment="env-HALF")).encode().replace(b"HALF", half)
            reply = client.post("/v1/reconcile", content=body, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
        operator.actions.record("env-\ud800", Action("Refuse", "APIGraph", "x", "", "because of \udfff"), "skipped")
        newest = client.get("/v1/actions").json()["actions"][-1]
    assert (newest["environment_id"], newest["reason"]) == ("env-?", "because of ?")


def test_a_log_line_is_written_whatever_is_in_it() -> None:
    """Half a surrogate pair, which no stream takes, is no reason for a missing line."""
    record = logging.makeLogRecord({"msg": "of %s", "args": ("env-\ud800",), "environment_id": "\udfff"})
    line = JsonFormatter().format(record)
    assert json.loads(line.encode())["msg"] == "of env-?"


def test_r21_requests_write_nothing_after_the_stop(cluster_settings: Settings) -> None:
    """POST and DELETE answer 503 once the operator stops, and send nothing."""
    with running(cluster_settings) as operator, serving(operator) as client:
        _reconcile(client, spec(component()))
        newest = operator.actions.newest
        assert operator.stop(10)
        replies = [
            client.post("/v1/reconcile", json=spec(component(), build="build-2")),
            client.delete("/v1/environments/env-1"),
        ]
        assert [(r.status_code, r.json()["error"]["code"]) for r in replies] == [(503, "stopping")] * 2
        assert operator.actions.newest == newest
