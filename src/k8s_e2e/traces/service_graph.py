"""Who called whom: edges between services, from spans and their parents."""

from collections.abc import Iterable

from k8s_e2e.model.traces import ServiceEdge
from k8s_e2e.traces.percentiles import nearest_rank
from k8s_e2e.traces.spans import Span, Trace

_CALLERS = ("client", "producer")


def service_graph(traces: Iterable[Trace]) -> list[ServiceEdge]:
    """Return the edges by caller and callee.

    A span whose parent is of another service is a call. A client's span below which no other service answered is a
    call to a peer that reports nothing; the name is what the span says of it (``inferred``).
    """
    calls: dict[tuple[str, str, bool], list[Span]] = {}
    for trace in traces:
        by_id = {span.span_id: span for span in trace.spans}
        for span in trace.spans:
            parent = by_id.get(span.parent_id)
            if parent and parent.service != span.service:
                calls.setdefault((parent.service, span.service, False), []).append(span)
            below = trace.children.get(span.span_id, ())
            if span.kind in _CALLERS and span.peer and not any(child.service != span.service for child in below):
                calls.setdefault((span.service, span.peer, True), []).append(span)
    return [_edge(*key, spans) for key, spans in sorted(calls.items())]


def _edge(caller: str, callee: str, inferred: bool, spans: list[Span]) -> ServiceEdge:
    durations = sorted(span.duration_us / 1000 for span in spans)
    return ServiceEdge(
        caller=caller,
        callee=callee,
        count=len(spans),
        errors=sum(span.error for span in spans),
        p50_ms=nearest_rank(durations, 50),
        p95_ms=nearest_rank(durations, 95),
        inferred=inferred,
    )
