"""Reading traces: duplicates, orphans, circles, several roots, links."""

import json

from k8s_e2e.traces.spans import Span, build, load


def raw(span_id: str, parent: str = "", *, start: int = 0, duration: int = 10, **more) -> dict:
    """Make a span of trace t in Jaeger's form."""
    references = [{"refType": "CHILD_OF", "traceID": "t", "spanID": parent}] if parent else []
    return {
        "traceID": "t",
        "spanID": span_id,
        "operationName": span_id,
        "references": references,
        "startTime": start,
        "duration": duration,
        "processID": "p1",
        **more,
    }


def read(*spans: dict, known: tuple[str, ...] = ()):
    """Load one trace of these spans."""
    processes = {"p1": {"serviceName": "gateway", "tags": [{"key": "k8s.pod.name", "value": "gateway-1"}]}}
    data = {"data": [{"traceID": "t", "spans": list(spans), "processes": processes}]}
    return load(json.dumps(data).encode(), known)[0]


def test_of_copies_of_a_span_the_richest_is_kept():
    """The copy with more tags wins, wherever it stands; the others are counted."""
    rich = raw("a", tags=[{"key": "error", "value": True}])
    trace = read(raw("a"), rich, raw("a"))
    assert trace.duplicates == 2
    assert trace.spans[0].error


def test_spans_without_their_parent_hang_below_a_virtual_one():
    """Orphans of one missing parent share a flagged stand-in under the real root."""
    trace = read(raw("root", duration=100), raw("b", "lost", start=10), raw("c", "lost", start=30))
    assert trace.orphans == 2
    (stand_in,) = trace.children["root"]
    assert (stand_in.span_id, stand_in.virtual, stand_in.start_us, stand_in.end_us) == ("lost", True, 10, 40)
    assert [span.span_id for span in trace.children["lost"]] == ["b", "c"]
    assert "lost" not in [span.span_id for span in trace.spans]


def test_a_span_below_the_kits_own_request_is_a_root():
    """The kit's span ids are known parents: what they caused is no orphan."""
    trace = read(raw("a", "ours"), known=("ours",))
    assert (trace.orphans, trace.root.span_id) == (0, "a")


def test_a_circle_of_parents_is_cut_at_its_earliest_span():
    """No reference leads in circles, and every span stays."""
    trace = read(raw("a", "c", start=5), raw("b", "a", start=1), raw("c", "b", start=3))
    assert trace.cycles == 1
    assert trace.root.span_id == "b"
    assert len(trace.spans) == 3


def test_several_roots_get_one_virtual_root_around_them():
    """The trace's duration reaches from the first to the last."""
    trace = read(raw("a", start=0, duration=5), raw("b", start=20, duration=5))
    assert (trace.root.virtual, trace.root.start_us, trace.root.end_us) == (True, 0, 25)


def test_references_to_other_traces_are_links_not_parents():
    """A follows-from reference into another trace makes no parent."""
    link = {"refType": "FOLLOWS_FROM", "traceID": "other", "spanID": "x"}
    trace = read(raw("a", references=[link]))
    assert (trace.spans[0].links, trace.orphans, trace.root.span_id) == (["other"], 0, "a")


def test_service_pod_status_and_message_come_from_tags():
    """Process and span tags are read into the span."""
    tags = [
        {"key": "span.kind", "value": "server"},
        {"key": "otel.status_code", "value": "ERROR"},
        {"key": "otel.status_description", "value": "no such package"},
        {"key": "http.response.status_code", "value": 404},
    ]
    one = read(raw("a", tags=tags)).spans[0]
    assert (one.service, one.pod, one.kind, one.error) == ("gateway", "gateway-1", "server", True)
    assert (one.message, one.http_status) == ("no such package", 404)


def test_deep_chains_and_circles_are_built_without_recursion():
    """50,000 spans in a row, ending in a circle, are one tree."""
    spans = [
        Span(trace_id="t", span_id=str(index), parent_id=str(index - 1 if index else 49_999), start_us=index)
        for index in range(50_000)
    ]
    trace = build("t", spans)
    assert (trace.cycles, trace.root.span_id) == (1, "0")
