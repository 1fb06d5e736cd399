"""Spans: what changed is traced and continues the trace that asked for it; what did not change is not."""

from collections.abc import Iterator

import pytest
from harness import Harness, RecordingApplier, upsert
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from specs import component, spec

from turbo_operator.applier import Result

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
_exporter = InMemorySpanExporter()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that ended during the test."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(_exporter))
        trace.set_tracer_provider(provider)
    _exporter.clear()
    yield _exporter
    _exporter.clear()


def _tree(spans: InMemorySpanExporter) -> dict[str, str | None]:
    finished = spans.get_finished_spans()
    by_id = {span.context.span_id: span.name for span in finished if span.context}
    return {_label(span): by_id.get(span.parent.span_id) if span.parent else None for span in finished}


def _label(span: ReadableSpan) -> str:
    name = (span.attributes or {}).get("k8s.object.name")
    return f"{span.name} {name}" if name else span.name


def test_a_reconcile_is_a_trace_of_plan_and_writes(spans: InMemorySpanExporter) -> None:
    """`reconcile` holds `plan` and one `apply <kind>` a write, in the trace that the APIGraph carries."""
    harness = Harness(RecordingApplier())
    upsert(harness.writer, harness.graphs, spec(component()), source="api", traceparent=PARENT)
    records = harness.reconciler.reconcile("env-1")
    assert _tree(spans) == {
        "reconcile": None,
        "plan": "reconcile",
        "apply ConfigMap cm-users": "reconcile",
        "apply Service svc-users": "reconcile",
        "apply Deployment deploy-users": "reconcile",
    }
    finished = spans.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in finished if span.context} == {TRACE_ID}
    applied = {f"{s.context.span_id:016x}" for s in finished if s.context and s.name.startswith("apply")}
    assert {record["span_id"] for record in records} == applied
    plan = next(span for span in finished if span.name == "plan")
    reconcile = next(span for span in finished if span.name == "reconcile")
    assert plan.start_time == reconcile.start_time
    harness.stop()


def test_a_reconcile_without_work_is_not_traced(spans: InMemorySpanExporter) -> None:
    """A second look that finds nothing to do leaves no span."""
    harness = Harness(RecordingApplier())
    name = harness.put(spec(component()))
    harness.reconciler.reconcile(name)
    spans.clear()
    harness.reconciler.reconcile(name)
    assert spans.get_finished_spans() == ()
    harness.stop()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_repair_is_a_trace_of_its_own(spans: InMemorySpanExporter, restarted: bool) -> None:
    """What happens later to a generation that was carried out is not told as part of the request that brought it."""
    applier = RecordingApplier()
    harness = Harness(applier)
    upsert(harness.writer, harness.graphs, spec(component()), source="api", traceparent=PARENT)
    harness.reconciler.reconcile("env-1")
    spans.clear()
    if restarted:
        obj = harness.graphs.get("env-1")
        assert obj is not None
        harness.writer.write_status(obj, harness.status())
        harness.reconciler._memories.clear()
    applier.memory.objects.pop(("Service", "svc-users"))
    harness.stores["Service"].remove("svc-users", None)
    harness.reconciler.reconcile("env-1")
    finished = spans.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in finished if span.context}.isdisjoint({TRACE_ID})
    assert _tree(spans)["apply Service svc-users"] == "reconcile"
    harness.stop()


def test_a_failed_write_is_a_failed_span(spans: InMemorySpanExporter) -> None:
    """The span of a write that failed carries its status and message, and so does the reconcile."""
    failed = Result("failed", 500, message="boom")
    harness = Harness(RecordingApplier(fault=lambda action: failed if action.kind == "Service" else None))
    harness.reconciler.reconcile(harness.put(spec(component())))
    by_name = {span.name: span for span in spans.get_finished_spans()}
    assert by_name["apply Service"].status.description == "boom"
    assert by_name["apply Service"].status.status_code is trace.StatusCode.ERROR
    assert by_name["reconcile"].status.description == "1 of 3 writes failed"
    harness.stop()
