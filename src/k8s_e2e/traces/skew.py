"""Clocks that differ: calls whose answer lies where it cannot have been."""

from collections.abc import Iterable

from k8s_e2e.model.traces import ClockSkew
from k8s_e2e.traces.spans import Trace

TOLERANCE_US = 500
FEWEST_LATE = 3
MOST = 0.8


def clock_skews(traces: Iterable[Trace]) -> list[ClockSkew]:
    """Return by caller and callee how many answers begin before their call, or end after it; nothing is adjusted.

    Only calls are looked at (a server's span below a client's) that the answer fits into: work that goes on after its
    parent has ended is no skew. No answer can begin early; but a busy server ends its span late now and then, whereas
    clocks differ all the time: it takes three late ones and nearly all of the calls.
    """
    calls: dict[tuple[str, str], list[tuple[int, int]]] = {}  # how early, how late
    for trace in traces:
        by_id = {span.span_id: span for span in trace.spans}
        for span in trace.spans:
            parent = by_id.get(span.parent_id)
            if not parent or parent.service == span.service or (parent.kind, span.kind) != ("client", "server"):
                continue
            if span.duration_us <= parent.duration_us and span.start_us < parent.end_us:
                outside = (parent.start_us - span.start_us, span.end_us - parent.end_us)
                calls.setdefault((parent.service, span.service), []).append(outside)
    skews = []
    for (caller, callee), offsets in sorted(calls.items()):
        beyond = [max(offset) for offset in offsets if max(offset) > TOLERANCE_US]
        early = any(offset[0] > TOLERANCE_US for offset in offsets)
        if early or (len(beyond) >= FEWEST_LATE and len(beyond) >= MOST * len(offsets)):
            skews.append(ClockSkew(caller=caller, callee=callee, spans=len(beyond), worst_ms=max(beyond) / 1000))
    return skews
