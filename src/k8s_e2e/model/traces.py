"""`trace-analysis.json`: what the traces say about time and failure."""

import msgspec

SCHEMA_VERSION = 1


class PathSegment(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A stretch of a critical path: ``span_id`` was what everybody waited for.

    ``offset_us`` counts from the trace's start. ``ambiguous``: another child of the span ran at the same time, so that
    the time may belong to either.
    """

    span_id: str
    service: str
    operation: str
    offset_us: int
    duration_us: int
    ambiguous: bool = False


class TraceSummary(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One trace. ``step`` is the test step whose request began it; ``path`` the critical path in order of time."""

    trace_id: str
    start: str
    duration_ms: float
    service: str
    operation: str
    spans: int
    services: list[str] = []
    errors: int = 0
    orphans: int = 0
    step: str = ""
    path: list[PathSegment] = []


class OperationStats(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Every span of one operation of one service. Percentiles by nearest rank; ``slowest`` is a trace id."""

    service: str
    operation: str
    count: int
    errors: int = 0
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    self_ms: float  # time not covered by children, summed
    critical_ms: float = 0.0  # time on critical paths, summed
    slowest: str


class ServiceEdge(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Calls from one service to another; ``inferred``: the callee reports no spans, its name is the caller's word."""

    caller: str
    callee: str
    count: int
    errors: int = 0
    p50_ms: float
    p95_ms: float
    inferred: bool = False


class ErrorRoot(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A failed span below which nothing failed: where an error began."""

    trace_id: str
    span_id: str
    time: str
    service: str
    operation: str
    message: str = ""
    http_status: int = 0
    pod: str = ""
    step: str = ""


class ClockSkew(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Spans that lie outside their parent although the parent waited for them: the clocks of two services differ."""

    caller: str
    callee: str
    spans: int
    worst_ms: float


class TraceAnalysis(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The whole of `trace-analysis.json`; a pure function of traces.json and requests.jsonl."""

    schema_version: int = SCHEMA_VERSION
    traces: list[TraceSummary] = []
    operations: list[OperationStats] = []
    edges: list[ServiceEdge] = []
    error_roots: list[ErrorRoot] = []
    skews: list[ClockSkew] = []
    services: dict[str, int] = {}  # service -> spans
    spans: int = 0
    duplicates: int = 0  # copies of a span that were dropped
    orphans: int = 0  # spans whose parent nobody reported
    cycles: int = 0  # parent references that were cut
    requested: int = 0
    found: int = 0
    missing: list[str] = []
    services_missing: list[str] = []
    complete: bool = False
