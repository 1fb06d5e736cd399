"""Section 7: whether the traces are complete, where requests spent their time, and where errors began."""

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.model.traces import TraceAnalysis, TraceSummary
from k8s_e2e.report.model import Block, Bullets, Code, Line, Link, Para, Section, Table, label

_MOST = 10


def section(facts: Facts) -> Section:
    """Return section 7."""
    analysis, census = facts.observed.trace_analysis, facts.observed.traces.census
    rest = ("trace-analysis.json", "traces.json")
    if not facts.observed.configured("traces"):
        return Section(7, "Traces", (Para("The profile names no trace source (no [traces]): none was asked for."),))
    if not analysis.traces and not facts.observed.traces.data:
        return Section(7, "Traces", (Para("No trace was collected."),), rest)
    requested, found = analysis.requested or census.requested, analysis.found or census.found
    items: list[Line] = [
        label("Complete", "yes" if analysis.complete else "no", f"; {found} of {requested} traces that were asked for"),
        label("Spans", f"{analysis.spans}", ", by service: ", Code(_counts(analysis))),
    ]
    missing = analysis.services_missing or census.services_missing
    if missing:
        items.append(label("Silent services", Code(", ".join(missing))))
    if analysis.orphans or analysis.duplicates:
        items.append(label("Flaws", f"{analysis.orphans} orphan spans, {analysis.duplicates} duplicates dropped"))
    blocks: list[Block] = [Bullets(tuple(items)), *_errors(analysis), *_slowest(analysis), *_operations(analysis)]
    return Section(7, "Traces", tuple(blocks), rest)


def _counts(analysis: TraceAnalysis) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(analysis.services.items())) or "none"


def _errors(analysis: TraceAnalysis) -> list[Block]:
    rows: tuple[tuple[Line, ...], ...] = tuple(
        (
            root.time[11:23],
            Code(f"{root.service} {root.operation}"),
            Code(one_line(root.message or (f"HTTP {root.http_status}" if root.http_status else ""), 160)),
            Code(root.step),
            Code(f"traces.json#{root.trace_id}/{root.span_id}"),
        )
        for root in analysis.error_roots[:_MOST]
    )
    columns = ("time (UTC)", "operation", "error", "step", "evidence")
    return [Table(columns, rows, title="Where errors began", more=_more(len(analysis.error_roots)))] if rows else []


def _slowest(analysis: TraceAnalysis) -> list[Block]:
    slowest = sorted(analysis.traces, key=lambda trace: (-trace.duration_ms, trace.trace_id))
    rows: tuple[tuple[Line, ...], ...] = tuple(
        (
            f"{trace.duration_ms:.1f}",
            Code(one_line(f"{trace.service} {trace.operation}", 80)),
            str(trace.spans),
            Code(_path(trace)),
            Code(trace.step),
            Code(trace.trace_id),
        )
        for trace in slowest[:_MOST]
    )
    columns = ("ms", "trace", "spans", "critical path (service: ms)", "step", "trace id")
    return [Table(columns, rows, title="Slowest traces", more=_more(len(slowest)))] if rows else []


def _path(trace: TraceSummary) -> str:
    spent: dict[str, int] = {}
    for segment in trace.path:
        spent[segment.service] = spent.get(segment.service, 0) + segment.duration_us
    longest = sorted(spent.items(), key=lambda entry: (-entry[1], entry[0]))
    return one_line(", ".join(f"{service}: {micros / 1000:.1f}" for service, micros in longest), 160)


def _operations(analysis: TraceAnalysis) -> list[Block]:
    busiest = sorted(analysis.operations, key=lambda one: (-one.self_ms, one.service, one.operation))
    rows: tuple[tuple[Line, ...], ...] = tuple(
        (
            Code(one_line(f"{one.service} {one.operation}", 80)),
            str(one.count),
            str(one.errors),
            f"{one.p50_ms:.1f} / {one.p95_ms:.1f}",
            f"{one.self_ms:.0f}",
        )
        for one in busiest[:_MOST]
    )
    columns = ("operation", "count", "errors", "p50 / p95 ms", "self ms")
    return [Table(columns, rows, title="Operations by own time", more=_more(len(busiest)))] if rows else []


def _more(count: int) -> Line:
    return (f"{count - _MOST} more in ", Link("trace-analysis.json")) if count > _MOST else ""
