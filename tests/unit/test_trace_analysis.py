"""From a run directory's traces to what they say."""

import json

import pytest

from k8s_e2e.base.errors import UsageError
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import Profile, ServicePort
from k8s_e2e.traces import gate, sent
from k8s_e2e.traces.analysis import PERFETTO, analyse
from k8s_e2e.traces.percentiles import nearest_rank
from k8s_e2e.traces.perfetto import lanes
from k8s_e2e.traces.skew import clock_skews
from k8s_e2e.traces.spans import Span, build

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = "b7ad6b7169203331"


def a_span(span_id, parent, service, start, duration, *, kind="server", tags=()):
    """Make a span in Jaeger's form."""
    return {
        "traceID": TRACE,
        "spanID": span_id,
        "operationName": f"{service} {kind}",
        "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": parent}] if parent else [],
        "startTime": 1_700_000_000_000_000 + start,
        "duration": duration,
        "tags": [{"key": "span.kind", "value": kind}, *({"key": key, "value": value} for key, value in tags)],
        "processID": service,
    }


@pytest.fixture
def run(tmp_path):
    """A run in which the gateway calls the store, which fails in its database."""
    spans = [
        a_span("g", SENT, "gateway", 0, 1000, tags=[("error", True)]),
        a_span("c", "g", "gateway", 100, 800, kind="client", tags=[("error", True)]),
        a_span("s", "c", "store", 200, 600, tags=[("error", True), ("otel.status_description", "disk full")]),
        a_span("d", "s", "store", 300, 100, kind="client", tags=[("db.system", "sqlite")]),
    ]
    trace = {"traceID": TRACE, "spans": spans, "processes": {n: {"serviceName": n} for n in ("gateway", "store")}}
    census = {"requested": 1, "found": 1, "stable": True}
    (tmp_path / "traces.json").write_text(json.dumps({"census": census, "data": [trace]}))
    record = {
        "time": "2023-11-14T22:13:20.000000Z",
        "traceparent": f"00-{TRACE}-{SENT}-01",
        "trace_id": TRACE,
        "step": "shop/03",
        "service": "gateway",
        "method": "GET",
        "url": "http://127.0.0.1:1/pets",
        "status": 500,
    }
    (tmp_path / "requests.jsonl").write_text(json.dumps(record) + "\n")
    return RunDir(tmp_path)


def test_the_error_began_in_the_deepest_failed_span(run):
    """Of three failed spans in a row only the innermost is an error root, joined to its step."""
    (root,) = analyse(run).error_roots
    assert (root.service, root.message, root.step) == ("store", "disk full", "shop/03")


def test_edges_are_calls_between_services_and_peers_that_report_nothing(run):
    """The store is called by the gateway; sqlite is inferred from the store's word."""
    edges = [(edge.caller, edge.callee, edge.count, edge.errors, edge.inferred) for edge in analyse(run).edges]
    assert edges == [("gateway", "store", 1, 1, False), ("store", "sqlite", 1, 0, True)]


def test_a_traces_path_and_step_are_told(run):
    """The path sums to the trace's duration, from the gateway into the store and back."""
    analysis = analyse(run)
    (trace,) = analysis.traces
    assert (trace.service, trace.step, trace.duration_ms, trace.orphans) == ("gateway", "shop/03", 1.0, 0)
    assert [segment.span_id for segment in trace.path] == ["g", "c", "s", "d", "s", "c", "g"]
    assert sum(segment.duration_us for segment in trace.path) == 1000
    assert analysis.complete


def test_the_same_input_gives_the_same_bytes(run):
    """Both derived files are pure functions of the sealed ones."""
    analyse(run)
    first = [path.read_bytes() for path in (run.trace_analysis, run.exports / PERFETTO)]
    analyse(run)
    assert first == [path.read_bytes() for path in (run.trace_analysis, run.exports / PERFETTO)]


def test_a_run_without_traces_gets_an_empty_analysis(tmp_path):
    """Nothing to analyse is not an error, and not complete."""
    analysis = analyse(RunDir(tmp_path))
    assert (analysis.traces, analysis.complete) == ([], False)


def test_a_file_that_holds_no_traces_is_named(tmp_path):
    """A broken traces.json is one clear line."""
    (tmp_path / "traces.json").write_text('{"data": 3}')
    with pytest.raises(UsageError, match=r"traces\.json"):
        analyse(RunDir(tmp_path))


def test_percentiles_are_measured_values():
    """Nearest rank never interpolates."""
    assert [nearest_rank([1.0, 2.0, 3.0, 4.0], percent) for percent in (50, 95, 100)] == [2.0, 4.0, 4.0]
    assert nearest_rank([7.0], 1) == 7.0


def test_spans_that_only_overlap_get_lanes_of_their_own():
    """Events of one lane nest or follow each other, as the format wants it."""
    times = [(0, 10), (0, 4), (4, 9), (5, 12), (12, 13)]
    spans = [Span(trace_id="t", span_id=str(index), start_us=a, end_us=b) for index, (a, b) in enumerate(times)]
    assert lanes(spans) == [1, 1, 1, 2, 1]


def test_only_answered_requests_to_traced_services_must_have_spans(profile_of):
    """Untraced services, unanswered requests and readiness polls are not missed."""

    def record(trace_id, service, status=200, path="/v1/packages"):
        return sent.RequestRecord(
            time="",
            traceparent="",
            trace_id=trace_id,
            step="",
            service=service,
            method="GET",
            url=f"http://127.0.0.1:5{path}",
            status=status,
        )

    records = [
        record("a", "registry"),
        record("b", "registry", status=0),
        record("c", "jaeger"),
        record("d", "elsewhere"),
        record("e", "registry", path="/readyz?x=1"),
    ]
    assert sent.expected(records, profile_of) == {"a"}


@pytest.fixture
def profile_of(tmp_path):
    """A profile with one traced and one untraced service."""
    services = (ServicePort(name="registry", port=1), ServicePort(name="jaeger", port=2, traced=False))
    return Profile(root=tmp_path, name="p", overlay="o", namespace="n", services=services)


def test_linked_traces_and_copies_are_seen_by_the_gate():
    """The gate follows links into other traces and writes each span once, its richest copy."""
    link = {"refType": "FOLLOWS_FROM", "traceID": "other", "spanID": "x"}
    poor, rich = {"spanID": "a", "startTime": 1}, {"spanID": "a", "startTime": 1, "tags": [1], "references": [link]}
    trace = {"traceID": "t", "spans": [poor, rich, {"spanID": "b", "startTime": 0}]}
    assert gate.linked(trace) == {"other"}
    assert gate.deduplicated(trace)["spans"] == [{"spanID": "b", "startTime": 0}, rich]


def test_only_what_cannot_have_been_is_clock_skew():
    """An answer outside the call it fits into is skew, unless it is a rare one; later work of the callee is none."""

    def tree(start, end, kind="server"):
        spans = [
            Span(trace_id="t", span_id="c", service="a", kind="client", start_us=0, end_us=10_000),
            Span(trace_id="t", span_id="s", parent_id="c", service="b", kind=kind, start_us=start, end_us=end),
        ]
        return build("t", spans)

    right, late, early = (1_000, 9_000), (4_000, 12_000), (-3_000, 5_000)
    assert [len(clock_skews([tree(*case)] * 3)) for case in (right, late, early)] == [0, 1, 1]
    assert clock_skews([tree(*late), *[tree(*right)] * 3]) == []
    assert clock_skews([tree(*late, "internal"), tree(11_000, 15_000)] * 3) == []
