"""Spans of `traces.json` as flat records, for tables and pictures; analysis is the trace layer's work."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from k8s_e2e.diagnosis.observed import Observed

_MICRO = 1_000_000


class SpanRecord(NamedTuple):
    """One span; ``start_s`` in epoch seconds."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    operation: str
    start_s: float
    duration_s: float
    error: bool
    tags: dict[str, Any]


def spans(observed: Observed) -> Iterator[SpanRecord]:
    """Yield each span once, in the order of the file; what is no span is left out.

    Source of the format: Jaeger's ``/api/traces`` (times in microseconds).
    """
    seen: set[tuple[str, str]] = set()
    for trace in observed.traces.data:
        processes = trace.get("processes")
        for span in trace.get("spans") or []:
            if not isinstance(span, dict):
                continue
            key = str(span.get("traceID", "")), str(span.get("spanID", ""))
            start, duration = span.get("startTime"), span.get("duration")
            if key in seen or not isinstance(start, int | float) or not isinstance(duration, int | float):
                continue
            seen.add(key)
            tags = _tags(span.get("tags"))
            yield SpanRecord(
                *key,
                parent_id=_parent(span),
                service=_service(processes, span.get("processID")),
                operation=str(span.get("operationName", "")),
                start_s=start / _MICRO,
                duration_s=duration / _MICRO,
                error=tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR",
                tags=tags,
            )


def _tags(listed: Any) -> dict[str, Any]:
    entries = listed if isinstance(listed, list) else []
    return {str(tag.get("key")): tag.get("value") for tag in entries if isinstance(tag, dict)}


def _parent(span: dict[str, Any]) -> str:
    references = span.get("references")
    for reference in references if isinstance(references, list) else []:
        if isinstance(reference, dict) and reference.get("refType") == "CHILD_OF":
            return str(reference.get("spanID", ""))
    return ""


def _service(processes: Any, key: Any) -> str:
    process = processes.get(key) if isinstance(processes, dict) else None
    return str(process.get("serviceName", "")) if isinstance(process, dict) else ""
