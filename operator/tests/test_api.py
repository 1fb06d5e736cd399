"""The HTTP API, in dev mode."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from specs import component, spec

from turbo_operator.api import LARGEST_BODY, make_app
from turbo_operator.openapi import document
from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings


@pytest.fixture
def operator() -> Iterator[Operator]:
    """A running operator in dev mode without a builder."""
    running = Operator(Settings())
    running.start()
    yield running
    assert running.stop(5)


@contextlib.contextmanager
def _serving(operator: Operator) -> Iterator[httpx.Client]:
    """The operator's API on a loopback port."""
    config = uvicorn.Config(make_app(operator), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
        server.should_exit = True
        thread.join(5)


@pytest.fixture
def client(operator: Operator) -> Iterator[httpx.Client]:
    """A client of its API."""
    with _serving(operator) as serving:
        yield serving


def _reconcile(client: httpx.Client, value: Any) -> Any:
    reply = client.post("/v1/reconcile", json=value)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_graph_is_carried_out_and_told(client: httpx.Client) -> None:
    """POST /v1/reconcile gives the finished actions and a status that says it is simulated; again it does nothing."""
    value = spec(component(), ingress={"host": "a.example.com", "routes": [{"path": "/u", "targetComponent": "users"}]})
    first = _reconcile(client, value)
    assert [(a["action"], a["resource_kind"]) for a in first["actions"]] == [
        ("Create", "APIGraph"),
        ("Create", "ConfigMap"),
        ("Create", "Service"),
        ("Create", "Deployment"),
    ]
    assert first["status"]["phase"] == "Running"
    assert "simulated" in first["status"]["componentStatuses"][0]["message"]
    assert _reconcile(client, value)["actions"] == []
    status = client.get("/v1/status/env-1").json()
    assert (status["environmentId"], status["buildId"], status["rootPackage"]) == ("env-1", "build-1", "users")
    assert client.get("/v1/status").json() == {"environments": [status]}


def test_a_traceparent_is_continued(client: httpx.Client) -> None:
    """Actions belong to the trace of the request that caused them."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    reply = client.post("/v1/reconcile", json=spec(component()), headers=headers)
    assert {a["trace_id"] for a in reply.json()["actions"]} == {trace_id}


def test_actions_are_numbered_without_gaps_and_filtered(client: httpx.Client) -> None:
    """Sequence numbers count up by one; `since` and `environment` choose."""
    _reconcile(client, spec(component()))
    _reconcile(client, spec(component("other"), environment="env-2"))
    everything = client.get("/v1/actions").json()
    assert [a["seq"] for a in everything["actions"]] == list(range(1, everything["newest"] + 1))
    keys = {"event", "environment_id", "action", "resource_kind", "resource_name", "fields", "reason", "outcome"}
    assert everything["actions"][0].keys() >= keys | {"http_status", "duration_ms", "trace_id", "span_id", "time"}
    assert len(client.get("/v1/actions?since=6").json()["actions"]) == everything["newest"] - 6
    assert {a["environment_id"] for a in client.get("/v1/actions?environment=env-2").json()["actions"]} == {"env-2"}


def test_an_environment_is_deleted_with_its_objects(client: httpx.Client) -> None:
    """DELETE answers 202, then the environment is unknown and its names are free for another."""
    _reconcile(client, spec(component()))
    assert client.delete("/v1/environments/env-1").status_code == 202
    assert client.get("/v1/status/env-1").status_code == 404
    assert client.delete("/v1/environments/env-1").status_code == 404
    assert _reconcile(client, spec(component(), environment="env-2"))["status"]["phase"] == "Running"


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
    value = spec(component(), ingress={"routes": [{"path": "/u", "targetComponent": "users"}]})
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


@pytest.mark.parametrize(("method", "path", "more", "status", "code"), _WRONG)
def test_errors_have_one_form(
    client: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    """Every error is a status, a code and a sentence; 405 names what is allowed."""
    reply = client.request(method, path, **more)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
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
def test_json_that_cannot_be_used_is_the_callers_mistake(client: httpx.Client, body: bytes) -> None:
    """What has no meaning or no end is 400, and leaves every later answer as it is."""
    reply = client.post("/v1/reconcile", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
    assert client.get("/v1/status").json() == {"environments": []}
    pair = json.dumps(spec(component(env={"A": "\U0001f600"})))  # a whole pair, in escapes
    assert client.post("/v1/reconcile", content=pair, headers={"content-type": "application/json"}).status_code == 200


def test_a_body_beyond_four_mebibytes_is_refused(client: httpx.Client) -> None:
    """What is too large is not read to its end."""
    body = b" " * (LARGEST_BODY + 1)
    reply = client.post("/v1/reconcile", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")


def test_an_invalid_component_is_told_and_the_rest_runs(client: httpx.Client) -> None:
    """A graph with one bad component is taken; its status and actions name the refusal."""
    reply = _reconcile(client, spec(component("good"), component("bad", port=-1)))
    assert reply["status"]["phase"] == "Degraded"
    assert {row["packageName"]: row["phase"] for row in reply["status"]["componentStatuses"]} == {
        "good": "Running",
        "bad": "Refused",
    }
    assert [a["resource_name"] for a in reply["actions"] if a["action"] == "Refuse"] == ["bad"]


def test_r22_health_and_readiness(client: httpx.Client, operator: Operator) -> None:
    """A running operator is alive and ready; a stopping one is alive and not ready."""
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["mode"]) == (200, "dev")
    assert "turbo_operator_actions_total" in client.get("/metrics").text
    assert operator.stop(5)
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_nothing_is_said_before_the_caches_are_synced() -> None:
    """An operator that has not listed yet answers 503, not "unknown" and not an empty route table."""
    with _serving(Operator(Settings())) as client:
        for path in ("/v1/status", "/v1/status/x", "/v1/gateway-config"):
            reply = client.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_ready")
        assert client.get("/readyz").status_code == 503


def test_openapi_names_every_route(client: httpx.Client) -> None:
    """The document has all paths of the API and is served."""
    served = client.get("/openapi.json").json()
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
