"""Clocks that differ: spans that lie where they cannot have been."""

from collections.abc import Iterable

from k8s_e2e.model.traces import ClockSkew
from k8s_e2e.traces.spans import Trace

TOLERANCE_US = 500


def clock_skews(traces: Iterable[Trace]) -> list[ClockSkew]:
    """Return by caller and callee how many spans cannot have been where they are; nothing is adjusted.

    Those begin before the parent that caused them, or are the answer to a call and end after the call although they
    would fit into it. (Work that goes on after its parent has ended is none: nobody waited for it.)
    """
    found: dict[tuple[str, str], list[int]] = {}
    for trace in traces:
        by_id = {span.span_id: span for span in trace.spans}
        for span in trace.spans:
            parent = by_id.get(span.parent_id)
            if not parent or parent.service == span.service:
                continue
            early = parent.start_us - span.start_us
            answer = parent.kind == "client" and span.kind == "server" and span.start_us < parent.end_us
            late = span.end_us - parent.end_us if answer and span.duration_us <= parent.duration_us else 0
            if max(early, late) > TOLERANCE_US:
                found.setdefault((parent.service, span.service), []).append(max(early, late))
    return [
        ClockSkew(caller=caller, callee=callee, spans=len(offsets), worst_ms=max(offsets) / 1000)
        for (caller, callee), offsets in sorted(found.items())
    ]
