"""The export gate against a real Jaeger, its spans sent over OTLP as services send them."""

import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s_e2e.base import files, http
from k8s_e2e.base.errors import KitError
from k8s_e2e.base.files import Lines
from k8s_e2e.base.progress import silent
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster import assets
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile, ServicePort, TraceSource
from k8s_e2e.model.results import RequestRecord, Results, ScenarioResult, StepResult
from k8s_e2e.model.settings import Settings
from k8s_e2e.platform.http import Requester
from k8s_e2e.traces import gate, jaeger
from k8s_e2e.traces.analysis import analyse

pytestmark = pytest.mark.cluster  # needs a cluster's binaries, though not a cluster

CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 10000}}}}
  jaeger_query:
    storage: {traces: memory}
    http: {endpoint: "127.0.0.1:QUERY"}
    grpc: {endpoint: "127.0.0.1:GRPC"}
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:OTLP"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}
"""


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Jaeger:
    """A running Jaeger: where it takes spans, and how the kit reads it."""

    def __init__(self, otlp: int, query: int) -> None:
        self.otlp = otlp
        self.query = query

    def url(self, service: str, port: int, *, timeout_s: float = 0.0) -> str:
        """Stand in for a port-forward: Jaeger is on this machine."""
        return f"http://127.0.0.1:{self.query}"

    def send(self, service: str, *spans: dict[str, Any]) -> None:
        """Send spans of one service."""
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}
        with http.client() as client:
            reply = client.post(f"http://127.0.0.1:{self.otlp}/v1/traces", json=body)
        assert reply.status_code == 200


def a_span(trace_id: str, span_id: str, parent: str, name: str, **more: Any) -> dict[str, Any]:
    """Make a span in OTLP's JSON form that ended now."""
    end = time.time_ns()
    times = {"startTimeUnixNano": str(end - 5_000_000), "endTimeUnixNano": str(end)}
    return {"traceId": trace_id, "spanId": span_id, "parentSpanId": parent, "name": name, "kind": 2, **times, **more}


@pytest.fixture(scope="module")
def collecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """A Jaeger of the module's own."""
    binary = assets.ensure(["jaeger"], Settings(), print).path("jaeger")
    scratch = tmp_path_factory.mktemp("jaeger")
    ports = {"OTLP": free_port(), "QUERY": free_port(), "GRPC": free_port()}
    text = CONFIG
    for name, port in ports.items():
        text = text.replace(name, str(port))
    (scratch / "config.yaml").write_text(text)
    running = Jaeger(ports["OTLP"], ports["QUERY"])
    with (scratch / "log.txt").open("wb") as log:
        child = subprocess.Popen([binary, "--config", scratch / "config.yaml"], stdout=log, stderr=log)
        try:

            def ready() -> bool | Pending:
                try:
                    with http.client(timeout_s=1) as client:
                        return client.get(f"{running.url('', 0)}/api/services").status_code == 200 or Pending("no")
                except http.HTTPError as error:
                    return Pending(f"{error}; {(scratch / 'log.txt').read_text()[-500:]}")

            wait_for("Jaeger", ready, timeout_s=30)
            yield running
        finally:
            child.terminate()
            child.wait(20)


class Case:
    """One run: its directory, its profile, and the requests it has sent."""

    def __init__(self, root: Path, running: Jaeger) -> None:
        self.run = RunDir(root)
        self.suffix = secrets.token_hex(3)  # services of one test are no other's
        self.gateway, self.store = f"gateway-{self.suffix}", f"store-{self.suffix}"
        services = (ServicePort(name=self.gateway, port=1), ServicePort(name="jaeger", port=2, traced=False))
        traces = TraceSource(service="jaeger", port=2, expected=(self.gateway, self.store))
        self.profile = Profile(root=root, name="p", overlay="o", namespace="n", services=services, traces=traces)
        self.requester = Requester(running, self.profile, None)  # type: ignore[arg-type]

    def request(self) -> tuple[str, str]:
        """Note an answered request of the kit; returns its trace id and the id of its span."""
        trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
        record = RequestRecord(
            time="2026-01-02T03:04:05.000000Z",
            traceparent=f"00-{trace_id}-{span_id}-01",
            trace_id=trace_id,
            step="shop/01",
            service=self.gateway,
            method="GET",
            url="http://127.0.0.1:1/pets",
            status=200,
        )
        lines = Lines(self.run.requests)
        lines.append(record)
        lines.close()
        return trace_id, span_id

    def look_at_trace(self, *services: str) -> None:
        """Note a `trace` step that named these services."""
        step = StepResult(id="shop/02", name="", kind="trace", status="failed", started="", duration_s=0.0)
        step.expected = {"services": list(services)}
        scenario = ScenarioResult(name="shop", status="failed", started="", duration_s=0.0, steps=[step])
        files.write_json(self.run.results, Results(scenarios=[scenario]))

    def export(self, timeout_s: float = 20.0) -> Any:
        """Run the gate."""
        return gate.export(self.run, self.requester, self.profile, Settings(gate_timeout_s=timeout_s), silent)


@pytest.fixture
def case(tmp_path: Path, collecting: Jaeger) -> Iterator[Case]:
    """A run with no request yet."""
    case = Case(tmp_path, collecting)
    yield case
    case.requester.close()


def test_the_gate_waits_for_late_parents(collecting: Jaeger, case: Case) -> None:
    """A child that arrives before its parent is not taken for the whole trace."""
    trace_id, ours = case.request()
    parent, child = secrets.token_hex(8), secrets.token_hex(8)
    collecting.send(case.store, a_span(trace_id, child, parent, "GET /pets"))
    late = threading.Timer(2.5, collecting.send, [case.gateway, a_span(trace_id, parent, ours, "GET")])
    late.start()
    traces = case.export()
    late.join()
    assert (traces.census.found, traces.census.orphans, traces.census.stable) == (1, 0, True)
    analysis = analyse(case.run)
    assert analysis.complete
    assert analysis.services == {case.gateway: 1, case.store: 1}
    assert [edge.callee for edge in analysis.edges] == [case.store]
    assert analysis.traces[0].step == "shop/01"


def test_what_services_do_on_their_own_is_kept(collecting: Jaeger, case: Case) -> None:
    """Traces that no request began, such as an operator's reconciles, are in the file and not missed by the census."""
    trace_id, ours = case.request()
    own = secrets.token_hex(16)
    collecting.send(case.gateway, a_span(trace_id, secrets.token_hex(8), ours, "GET"))
    collecting.send(case.store, a_span(own, secrets.token_hex(8), "", "reconcile"))
    traces = case.export()
    assert {trace["traceID"] for trace in traces.data} == {trace_id, own}
    assert (traces.census.requested, traces.census.found) == (1, 1)


def test_linked_traces_are_fetched(collecting: Jaeger, case: Case) -> None:
    """A trace that a span links to belongs to the run, also where no expected service took part in it."""
    trace_id, ours = case.request()
    other = secrets.token_hex(16)
    link = {"links": [{"traceId": other, "spanId": secrets.token_hex(8)}]}
    collecting.send(case.gateway, a_span(trace_id, secrets.token_hex(8), ours, "GET", **link))
    collecting.send(case.store, a_span(trace_id, secrets.token_hex(8), ours, "GET"))
    collecting.send(f"worker-{case.suffix}", a_span(other, secrets.token_hex(8), "", "job"))
    assert {trace["traceID"] for trace in case.export().data} == {trace_id, other}


def test_what_never_comes_is_named_within_the_deadline(collecting: Jaeger, case: Case) -> None:
    """The gate gives up in time, writes what there is, and says what was missing."""
    there, ours = case.request()
    lost, _ = case.request()
    case.look_at_trace(case.gateway, case.store)
    collecting.send(case.gateway, a_span(there, secrets.token_hex(8), ours, "GET"))
    began = time.monotonic()
    traces = case.export(timeout_s=2.0)
    assert time.monotonic() - began < 6.0
    assert traces.census.missing == [lost]
    assert traces.census.services_missing == [case.store]
    assert not traces.census.stable
    assert not analyse(case.run).complete
    assert json.loads(case.run.traces.read_bytes())["census"]["missing"] == [lost]


def test_a_service_that_nobody_asked_is_not_waited_for(collecting: Jaeger, case: Case) -> None:
    """A scenario that needs one service only has complete traces without spans of the others."""
    trace_id, ours = case.request()
    collecting.send(case.gateway, a_span(trace_id, secrets.token_hex(8), ours, "GET"))
    began = time.monotonic()
    traces = case.export()
    assert time.monotonic() - began < 10.0
    assert (traces.census.services_missing, traces.census.stable) == ([], True)
    assert analyse(case.run).complete


def test_a_full_reply_is_asked_for_in_halves(collecting: Jaeger, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jaeger cuts a reply at its limit without saying so; nothing is lost to that."""
    monkeypatch.setattr(jaeger, "PAGE", 5)
    began_us = int(time.time() * 1e6)
    ids = {secrets.token_hex(16) for _ in range(23)}
    for trace_id in ids:
        collecting.send(case.store, a_span(trace_id, secrets.token_hex(8), "", "reconcile"))
    end_us = int(time.time() * 1e6) + 1000
    found = jaeger.fetch_service(case.requester, case.profile, case.store, start_us=began_us - 1_000_000, end_us=end_us)
    assert {trace["traceID"] for trace in found} == ids


def test_a_jaeger_that_is_gone_is_one_clear_error(case: Case) -> None:
    """No Jaeger, no traces.json, and a message that names it."""
    case.request()
    case.requester._forwards = Jaeger(1, 1)  # type: ignore[assignment]
    with pytest.raises(KitError, match="jaeger"):
        case.export(timeout_s=1.0)
