"""Self time: how much of a span none of its children covers."""

from k8s_e2e.traces.spans import Span, Trace


def self_times(trace: Trace) -> dict[str, int]:
    """Return the self time of every reported span of ``trace`` in microseconds, by span id."""
    return {span.span_id: self_time(span, trace.children.get(span.span_id, [])) for span in trace.spans}


def self_time(span: Span, children: list[Span]) -> int:
    """Return the microseconds of ``span`` outside the union of its children (sorted by start)."""
    covered = 0
    cursor = span.start_us
    for child in children:
        start, end = max(child.start_us, cursor), min(child.end_us, span.end_us)
        if end > start:
            covered += end - start
            cursor = end
    return span.duration_us - covered
