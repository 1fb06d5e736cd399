"""Traces: the OpenTelemetry SDK, exporting OTLP over HTTP, and W3C trace context in and out.

Not traced: probes, metrics, polls that were answered 304, and requests whose caller says so by an unsampled
``traceparent`` (see `untraced`).
"""

import logging
import os
import random
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.util.http import ExcludeList
from starlette.types import ASGIApp, Scope

EXPORT_TIMEOUT_S: Final = 3.0
BATCH_DELAY_MS: Final = 500
"""Spans are sent this soon: the SDK's 5 s would hide them from whoever looks right after a request."""
_PROBES: Final = r"^[a-z]+://[^/]+/(healthz|readyz|metrics|openapi\.json)(\?|$)"
_UNCHANGED: Final = 304

log = logging.getLogger(__name__)
tracer = trace.get_tracer("turbo_services")


class _OneWarning(SpanExporter):
    """An exporter that tells once that the collector is away, and once that it is back."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send ``spans``; those that cannot be sent are lost and counted in the warning's silence."""
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
        if _UNCHANGED not in (attributes.get("http.status_code"), attributes.get("http.response.status_code")):
            super().on_end(span)


def configure(service: str) -> TracerProvider:
    """Set the process's tracer provider up; spans go out when an OTLP endpoint is set in the environment.

    The caller shuts the returned provider down, which flushes it.
    """
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.instance.id": socket.gethostname()})
    )
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        # Imported only where it is used: it costs a tenth of a CPU second.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        for noisy in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        delay_ms = float(os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or BATCH_DELAY_MS)
        exporter = _OneWarning(
            OTLPSpanExporter(timeout=float(os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") or EXPORT_TIMEOUT_S))
        )
        provider.add_span_processor(_WithoutIdlePolls(exporter, schedule_delay_millis=delay_ms))
    trace.set_tracer_provider(provider)
    return provider


def middleware(app: ASGIApp, templates: Sequence[str]) -> ASGIApp:
    """``app`` with a server span per request, named by the first of ``templates`` (e.g. ``/pets/{id}``) that fits."""
    routes = [
        (re.compile(re.sub(r"{\w+:path}", ".+", re.sub(r"{\w+}", "[^/]+", t)) + r"\Z"), t.replace(":path}", "}"))
        for t in templates
    ]
    static = [rf"^[a-z]+://[^/]+{t}/" for t in templates if t == "/static"]

    def details(scope: Scope) -> tuple[str, dict[str, Any]]:
        path = scope.get("path", "")
        route = next((template for pattern, template in routes if pattern.match(path)), None)
        method = scope.get("method", "")
        return (f"{method} {route}", {"http.route": route}) if route else (method, {})

    traced: ASGIApp = OpenTelemetryMiddleware(
        app,
        excluded_urls=ExcludeList([_PROBES, *static]),
        default_span_details=details,
        exclude_spans=["receive", "send"],
    )
    return traced


def current_traceparent() -> str:
    """The W3C ``traceparent`` of the current span; empty outside of any."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


@contextmanager
def continued(traceparent: str, name: str) -> Iterator[trace.Span]:
    """A span for background work that belongs to the request which asked for it."""
    parent = propagate.extract({"traceparent": traceparent} if traceparent else {}, context=context.Context())
    with tracer.start_as_current_span(name, context=parent) as span:
        yield span


@contextmanager
def untraced() -> Iterator[None]:
    """Requests made inside are traced neither here nor by whoever answers them: their traceparent is unsampled."""
    nobody = trace.NonRecordingSpan(
        trace.SpanContext(
            trace_id=random.getrandbits(128) | 1,
            span_id=random.getrandbits(64) | 1,
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.DEFAULT),
        )
    )
    token = context.attach(trace.set_span_in_context(nobody, context.Context()))
    try:
        yield
    finally:
        context.detach(token)
