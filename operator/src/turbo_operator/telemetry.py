"""Traces: the OpenTelemetry SDK, exporting OTLP over HTTP, and W3C trace context in and out."""

import logging
import os
import socket
from collections.abc import Sequence

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from turbo_operator.logs import SERVICE

_EXPORT_TIMEOUT_S = 3.0
_DELAY_MS = 500.0
"""Spans are sent this soon: the SDK's 5 s would hide them from whoever looks right after a change."""
_QUEUED_SPANS = 8192
"""A graph of 1,000 components makes 3,000 spans faster than they are sent."""
_NOT_MODIFIED = 304
_SAMPLED_NEVER = "00-00000000000000000000000000000001-0000000000000001-00"
"""A traceparent for polls: whoever answers them records no span."""

log = logging.getLogger(__name__)
tracer = trace.get_tracer("turbo_operator")


class _OneWarning(SpanExporter):
    """An exporter that tells once that the collector is away, and once that it is back."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send `spans`; those that cannot be sent are lost."""
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._away:
            log.warning("spans cannot be sent to the collector; trying on without further warnings")
        elif self._away and not failed:
            log.info("the collector takes spans again")
        self._away = failed
        return result

    def shutdown(self) -> None:
        """Stop, giving up a send that is being retried."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held back here."""
        return self._inner.force_flush(timeout_millis)


class _WithoutIdlePolls(BatchSpanProcessor):
    """Drops the spans of polls that were told "nothing new"."""

    def on_end(self, span: ReadableSpan) -> None:
        attributes = span.attributes or {}
        if _NOT_MODIFIED not in {attributes.get("http.status_code"), attributes.get("http.response.status_code")}:
            super().on_end(span)


def configure(otlp_endpoint: str | None) -> TracerProvider:
    """Set the process's tracer provider up; spans go out when there is an endpoint.

    The caller shuts the returned provider down, which flushes it.
    """
    sent = bool(otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE, "service.instance.id": socket.gethostname()}),
        sampler=None if sent else ALWAYS_OFF,  # trace ids for the logs are made without recording, too
    )
    if sent:
        # Imported only where it is used: it costs a tenth of a CPU second.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        for noisy in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        provider.add_span_processor(
            _WithoutIdlePolls(
                _OneWarning(OTLPSpanExporter(timeout=_EXPORT_TIMEOUT_S)),
                max_queue_size=_QUEUED_SPANS,
                schedule_delay_millis=float(os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or _DELAY_MS),
            )
        )
    trace.set_tracer_provider(provider)
    return provider


def current_traceparent() -> str:
    """The W3C `traceparent` of the current span; empty outside of any."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


def parent(traceparent: str | None) -> otel_context.Context:
    """The context a `traceparent` names; a new trace without one."""
    carrier = {"traceparent": traceparent} if traceparent else {}
    return propagate.extract(carrier, context=otel_context.Context())


def unsampled_headers() -> dict[str, str]:
    """Headers that ask the answering side to record no span."""
    return {"traceparent": _SAMPLED_NEVER}
