"""Where errors began: failed spans below which nothing failed."""

from k8s_e2e.base import clock
from k8s_e2e.model.traces import ErrorRoot
from k8s_e2e.traces.spans import Trace


def error_roots(trace: Trace, step: str = "") -> list[ErrorRoot]:
    """Return the error roots of one trace by time; ``step`` is the test step it belongs to."""
    by_id = {span.span_id: span for span in trace.spans}
    above: set[str] = set()  # spans that have a failed one below them
    for span in trace.spans:
        if span.error:
            parent = by_id.get(span.parent_id)
            while parent and parent.span_id not in above:
                above.add(parent.span_id)
                parent = by_id.get(parent.parent_id)
    return [
        ErrorRoot(
            trace_id=trace.trace_id,
            span_id=span.span_id,
            time=clock.rfc3339(span.start_us / 1e6),
            service=span.service,
            operation=span.operation,
            message=span.message,
            http_status=span.http_status,
            pod=span.pod,
            step=step,
        )
        for span in trace.spans
        if span.error and span.span_id not in above
    ]
