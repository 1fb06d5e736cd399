"""Spans in the Chrome trace event format, which Perfetto (ui.perfetto.dev) opens.

Format: "Trace Event Format" (Chromium project): complete events ``ph: X`` with ``ts`` and ``dur`` in microseconds. A
process is a service; spans that overlap without one holding the other get lanes (threads) of their own, since events
of a thread must nest.
"""

from collections.abc import Iterable
from typing import Any

from k8s_e2e.traces.spans import Span, Trace


def trace_events(traces: Iterable[Trace]) -> dict[str, Any]:
    """Return the whole document, in order of time."""
    by_service: dict[str, list[Span]] = {}
    for trace in traces:
        for span in trace.spans:
            by_service.setdefault(span.service, []).append(span)
    events: list[dict[str, Any]] = []
    for process, service in enumerate(sorted(by_service), 1):
        events.append({"ph": "M", "name": "process_name", "pid": process, "args": {"name": service}})
        spans = sorted(by_service[service], key=lambda span: (span.start_us, -span.end_us, span.span_id))
        for span, lane in zip(spans, lanes(spans), strict=True):
            events.append(_event(span, process, lane))
    return {"displayTimeUnit": "ms", "traceEvents": events}


def lanes(spans: list[Span]) -> list[int]:
    """Give each span (sorted by start, longest first) the first lane, from 1, where it nests."""
    open_ends: list[list[int]] = []  # per lane: the ends of the spans that are open, innermost last
    chosen = []
    for span in spans:
        for lane, ends in enumerate(open_ends):
            while ends and ends[-1] <= span.start_us:
                ends.pop()
            if not ends or span.end_us <= ends[-1]:
                ends.append(span.end_us)
                chosen.append(lane + 1)
                break
        else:
            open_ends.append([span.end_us])
            chosen.append(len(open_ends))
    return chosen


def _event(span: Span, process: int, lane: int) -> dict[str, Any]:
    arguments = {"trace_id": span.trace_id, "span_id": span.span_id, "kind": span.kind}
    if span.error:
        arguments["error"] = span.message or "yes"
    return {
        "ph": "X",
        "name": span.operation,
        "cat": "error" if span.error else span.kind or "span",
        "ts": span.start_us,
        "dur": span.duration_us,
        "pid": process,
        "tid": lane,
        "args": arguments,
    }
