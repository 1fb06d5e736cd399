"""Traces: one across services, none of noise, and no loss at the end."""

import os
from typing import Any

from .conftest import Platform, eventually, unique


def sent() -> tuple[str, dict[str, str]]:
    """A trace id and the header that starts it."""
    trace_id = os.urandom(16).hex()
    return trace_id, {"traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01"}


def services(spans: list[dict[str, Any]]) -> set[str]:
    """The services that have spans."""
    return {span["service"] for span in spans}


def whole(platform: Platform, headers: dict[str, str], named: set[str], by: set[str]) -> list[dict[str, Any]]:
    """The spans of a trace once each service has sent its own: those named, by those services, no parent missing."""
    _, trace_id, sender, _ = headers["traceparent"].split("-")

    def there(seen: list[dict[str, Any]]) -> bool:
        known = {span["span_id"] for span in seen} | {sender}
        complete = all(span["parent_id"] in known for span in seen)
        return complete and named <= {span["name"] for span in seen} and by <= services(seen)

    return list(eventually(lambda: platform.spans.of(trace_id), there, timeout_s=60))


def test_request_through_the_gateway_is_one_trace(platform: Platform) -> None:
    """gateway, orchestrator and petstore have spans of one trace, each a child of the one before."""
    platform.operator.route([{"path_prefix": "/shop", "upstream_url": platform.orchestrator.url}])
    path = "/shop/rpc/getPet?id=2"
    eventually(lambda: platform.gateway.http.get(path).status_code, lambda status: status == 200)
    _, headers = sent()
    assert platform.gateway.http.get(path, headers=headers).status_code == 200
    wanted = {"gateway", "orchestrator", "petstore"}
    names = {"GET /shop", "GET /rpc/getPet", "GET /pets/{id}", "look up pet"}
    spans = whole(platform, headers, names, wanted)
    assert services(spans) == wanted
    by_id = {span["span_id"]: span for span in spans}

    def line(span: dict[str, Any]) -> list[str]:
        parent = by_id.get(span["parent_id"])
        return [*(line(parent) if parent else []), span["service"]]

    work = next(span for span in spans if span["name"] == "look up pet")
    steps = [service for i, service in enumerate(line(work)) if i == 0 or line(work)[i - 1] != service]
    assert steps == ["gateway", "orchestrator", "petstore"]


def test_creation_of_an_environment_is_one_trace(platform: Platform, root: str) -> None:
    """The build that goes on in the background belongs to the request that created the environment."""
    trace_id, headers = sent()
    body = {"name": unique("env"), "baseRootPackage": root}
    assert platform.envmanager.http.post("/v1/environments", json=body, headers=headers).status_code == 201
    names = {"build", "resolve", "compose", "validate", "bundle", "POST /v1/builds", "POST /v1/environments"}
    wanted = {"envmanager", "builder", "registry"}
    spans = whole(platform, headers, names, wanted)
    assert services(spans) == wanted
    ids = {span["span_id"] for span in spans}
    roots = [span["name"] for span in spans if span["parent_id"] not in ids]
    assert roots == ["POST /v1/environments"]
    resolve = next(span for span in spans if span["name"] == "resolve")
    below = [span for span in spans if span["parent_id"] == resolve["span_id"]]
    assert [span["name"] for span in below] == ["GET"]
    assert not [span for span in spans if span["status"] == 2]
    handed_on = platform.builder.http.get("/v1/graphs").json()["traceparents"]
    assert trace_id in [traceparent.split("-")[1] for traceparent in handed_on.values()]


def test_errors_are_on_the_spans(platform: Platform) -> None:
    """A gateway that cannot reach its upstream says so on its span."""
    platform.operator.route([{"path_prefix": "/gone", "upstream_url": "http://127.0.0.1:9"}])
    trace_id, headers = sent()
    eventually(lambda: platform.gateway.http.get("/gone/x", headers=headers).status_code, lambda status: status == 502)
    spans = eventually(
        lambda: [s for s in platform.spans.of(trace_id) if s["name"] == "GET /gone" and s["status"] == 2]
    )
    assert spans[0]["attributes"]["http.status_code"].int_value == 502


def test_probes_and_idle_polls_are_not_traced(platform: Platform, root: str) -> None:
    """Health, metrics, polls that were told nothing new and the pollers' own requests leave no span."""
    environment_id = platform.create(root)["id"]
    eventually(lambda: platform.environment(environment_id), lambda e: e["status"] == "ready")
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        platform.builder.http.get(path)
    tag = platform.builder.http.get("/v1/graphs").headers["etag"]
    trace_id, headers = sent()
    assert platform.builder.http.get("/v1/graphs", headers=headers | {"if-none-match": tag}).status_code == 304
    marker, headers = sent()
    platform.builder.http.get("/v1/builds", headers=headers)
    eventually(lambda: platform.spans.of(marker))
    assert platform.spans.of(trace_id) == []
    seen = platform.spans.all()
    targets = {span["attributes"]["http.target"].string_value for span in seen if "http.target" in span["attributes"]}
    assert not targets & {"/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/gateway-config"}
    # envmanager follows its builds by held polls: none of them shows.
    followed = [s for s in seen if s["service"] == "builder" and s["name"] == "GET /v1/builds/{id}"]
    by_id = {span["span_id"]: span for span in seen}
    assert all(
        by_id.get(span["parent_id"], {}).get("service") != "envmanager" or _asked(span, by_id) for span in followed
    )


def _asked(span: dict[str, Any], by_id: dict[str, Any]) -> bool:
    """Whether a request to envmanager, not its background, is behind a span."""
    while span["parent_id"] in by_id:
        span = by_id[span["parent_id"]]
    return str(span["name"]).startswith(("GET /v1/environments", "POST /v1/environments", "GET /environments"))


def test_spans_are_flushed_on_sigterm(platform: Platform, launch: Any) -> None:
    """A request answered just before SIGTERM is in the trace although the batch was not due."""
    petstore = launch("petstore", OTEL_BSP_SCHEDULE_DELAY="60000", OTEL_EXPORTER_OTLP_ENDPOINT=platform.collector)
    trace_id, headers = sent()
    petstore.http.get("/pets", headers=headers)
    assert petstore.terminate() == 0
    assert services(platform.spans.of(trace_id)) == {"petstore"}


def test_absent_collector_costs_one_warning(launch: Any) -> None:
    """Without a collector the service works, warns once, and still ends in time with 0."""
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
    petstore = launch("petstore", OTEL_BSP_SCHEDULE_DELAY="50", **away)

    def warnings() -> list[Any]:
        petstore.http.get("/pets")
        return [line for line in petstore.lines if line.get("level") in ("warning", "error")]

    eventually(warnings, timeout_s=15)
    assert petstore.terminate() == 0
    told = [line for line in petstore.lines if line.get("level") in ("warning", "error", "critical")]
    assert len(told) == 1
    assert "collector" in told[0]["msg"]


def test_log_lines_carry_the_trace(platform: Platform) -> None:
    """Every line is JSON with the same keys; the line of a request carries its trace and span."""
    trace_id, headers = sent()
    platform.petstore.http.get("/pets/1", headers=headers)
    mine = eventually(lambda: [line for line in platform.petstore.lines if line.get("trace_id") == trace_id])
    assert mine[0]["msg"] == "request"
    assert mine[0]["status"] == 200
    assert len(mine[0]["span_id"]) == 16
    for service in (platform.registry, platform.builder, platform.envmanager, platform.gateway, platform.petstore):
        assert not [line for line in service.lines if line.get("not_json")]
        assert all({"time", "level", "msg", "service"} <= line.keys() for line in service.lines)
