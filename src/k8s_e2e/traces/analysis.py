"""From traces.json to trace-analysis.json and to a file for Perfetto: the same input gives the same bytes."""

from collections import Counter

import msgspec

from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import UsageError
from k8s_e2e.model import io
from k8s_e2e.model.evidence import Census
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.traces import OperationStats, PathSegment, TraceAnalysis, TraceSummary
from k8s_e2e.traces import sent
from k8s_e2e.traces.critical_path import Segment, critical_path
from k8s_e2e.traces.errors import error_roots
from k8s_e2e.traces.percentiles import nearest_rank
from k8s_e2e.traces.perfetto import trace_events
from k8s_e2e.traces.self_time import self_times
from k8s_e2e.traces.service_graph import service_graph
from k8s_e2e.traces.skew import clock_skews
from k8s_e2e.traces.spans import Span, Trace, load

PERFETTO = "traces.perfetto.json"


def analyse(run: RunDir) -> TraceAnalysis:
    """Write trace-analysis.json and exports/traces.perfetto.json from traces.json; absent traces give an empty one.

    Raises:
        UsageError: traces.json is there, but is none or of a newer version.
    """
    records = sent.requests(run)
    census = io.load_or(run.traces, TracesFile).census
    traces: list[Trace] = []
    if run.traces.exists():
        try:
            traces = load(run.traces.read_bytes(), (sent.span_id(record) for record in records))
        except msgspec.DecodeError as error:
            message = f"{run.traces} holds something that is no trace: {error}"
            raise UsageError(message) from error
    analysis = summarise(traces, {record.trace_id: record.step for record in records})
    analysis.requested, analysis.found = census.requested, census.found
    analysis.missing, analysis.services_missing = census.missing, census.services_missing
    analysis.complete = census.stable and not census.missing and not census.services_missing
    files.write(run.trace_analysis, msgspec.json.format(msgspec.json.encode(analysis), indent=2) + b"\n")
    files.write(run.exports / PERFETTO, msgspec.json.encode(trace_events(traces)) + b"\n")
    return analysis


def summarise(traces: list[Trace], steps: dict[str, str]) -> TraceAnalysis:
    """Work everything out that the spans themselves tell; ``steps`` maps trace ids to test steps."""
    operations: dict[tuple[str, str], _Operation] = {}
    analysis = TraceAnalysis()
    services: Counter[str] = Counter()
    for trace in traces:
        path = critical_path(trace)
        analysis.traces.append(_summary(trace, path, steps.get(trace.trace_id, "")))
        analysis.error_roots += error_roots(trace, steps.get(trace.trace_id, ""))
        analysis.spans += len(trace.spans)
        analysis.duplicates += trace.duplicates
        analysis.orphans += trace.orphans
        analysis.cycles += trace.cycles
        own = self_times(trace)
        for span in trace.spans:
            services[span.service] += 1
            operation = operations.setdefault((span.service, span.operation), _Operation())
            operation.add(span, own[span.span_id])
        for segment in path:
            if not segment.span.virtual:
                key = (segment.span.service, segment.span.operation)
                operations[key].critical_us += segment.end_us - segment.start_us
    analysis.services = dict(sorted(services.items()))
    analysis.operations = [operation.stats(*key) for key, operation in sorted(operations.items())]
    analysis.edges = service_graph(traces)
    analysis.skews = clock_skews(traces)
    return analysis


class TracesFile(msgspec.Struct):
    """The part of traces.json beside the traces."""

    schema_version: int = 1
    census: Census = msgspec.field(default_factory=Census)


class _Operation:
    """The spans of one operation, as they are met."""

    def __init__(self) -> None:
        self.durations: list[float] = []
        self.errors = 0
        self.self_us = 0
        self.critical_us = 0
        self.slowest: Span | None = None

    def add(self, span: Span, self_us: int) -> None:
        self.durations.append(span.duration_us / 1000)
        self.errors += span.error
        self.self_us += self_us
        if self.slowest is None or span.duration_us > self.slowest.duration_us:
            self.slowest = span

    def stats(self, service: str, operation: str) -> OperationStats:
        ordered = sorted(self.durations)
        return OperationStats(
            service=service,
            operation=operation,
            count=len(ordered),
            errors=self.errors,
            p50_ms=nearest_rank(ordered, 50),
            p95_ms=nearest_rank(ordered, 95),
            p99_ms=nearest_rank(ordered, 99),
            max_ms=ordered[-1],
            self_ms=self.self_us / 1000,
            critical_ms=self.critical_us / 1000,
            slowest=self.slowest.trace_id if self.slowest else "",
        )


def _summary(trace: Trace, path: list[Segment], step: str) -> TraceSummary:
    root = trace.root
    named = root if not root.virtual else trace.spans[0]
    return TraceSummary(
        trace_id=trace.trace_id,
        start=clock.rfc3339(root.start_us / 1e6),
        duration_ms=root.duration_us / 1000,
        service=named.service,
        operation=named.operation,
        spans=len(trace.spans),
        services=sorted({span.service for span in trace.spans}),
        errors=sum(span.error for span in trace.spans),
        orphans=trace.orphans,
        step=step,
        path=[
            PathSegment(
                span_id=segment.span.span_id,
                service=segment.span.service,
                operation=segment.span.operation,
                offset_us=segment.start_us - root.start_us,
                duration_us=segment.end_us - segment.start_us,
                ambiguous=segment.ambiguous,
            )
            for segment in path
        ],
    )
