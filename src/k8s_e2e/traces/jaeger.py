"""Reading Jaeger's query API in its JSON form (``/api/traces``): one trace, a service's traces, the services.

A trace is ``{"traceID", "spans": [...], "processes": {...}}`` with times in microseconds, as the Jaeger UI reads it;
Jaeger 1 and 2 both serve it on the query port.
"""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from k8s_e2e.base.errors import ExpectationError
from k8s_e2e.model.profile import Profile, TraceSource
from k8s_e2e.platform.http import Requester

PAGE = 1000  # traces asked for at once; a fuller window is halved
NARROWEST_US = 1000  # a window is not halved below this


class JaegerError(ExpectationError):
    """Jaeger answered, but not with traces."""


def source(profile: Profile) -> TraceSource:
    """Return the profile's Jaeger.

    Raises:
        JaegerError: the profile names none.
    """
    if profile.traces is None:
        message = "the project profile names no trace source"
        raise JaegerError(message, hint="add [traces] to k8s-e2e.toml")
    return profile.traces


def fetch_trace(
    requester: Requester, profile: Profile, trace_id: str, *, timeout_s: float = 10.0
) -> dict[str, Any] | None:
    """Return one trace, or None while Jaeger has no span of it.

    Raises:
        JaegerError: Jaeger answered something else.
    """
    reply = _get(requester, profile, f"/api/traces/{quote(trace_id)}", timeout_s=timeout_s, absent=True)
    traces: list[dict[str, Any]] = (reply or {}).get("data") or []
    return next((trace for trace in traces if trace.get("spans")), None)


def fetch_services(requester: Requester, profile: Profile, *, timeout_s: float = 10.0) -> list[str]:
    """Return the names of the services that have reported spans, sorted.

    Raises:
        JaegerError: Jaeger answered something else.
    """
    reply = _get(requester, profile, "/api/services", timeout_s=timeout_s)
    return sorted((reply or {}).get("data") or [])


def fetch_service(
    requester: Requester, profile: Profile, service: str, *, start_us: int, end_us: int, timeout_s: float = 10.0
) -> list[dict[str, Any]]:
    """Return every trace that service ``service`` has a span in, started in ``[start_us, end_us]`` (epoch, µs).

    Jaeger cuts a reply at its limit without saying so: a window whose reply is full is asked for again in halves.

    Raises:
        JaegerError: Jaeger answered something else.
    """
    found: dict[str, dict[str, Any]] = {}
    windows = [(start_us, end_us)]
    while windows:
        low, high = windows.pop()
        query = urlencode({"service": service, "start": low, "end": high, "limit": PAGE})
        reply = _get(requester, profile, f"/api/traces?{query}", timeout_s=timeout_s, absent=True)
        traces = (reply or {}).get("data") or []
        for trace in traces:
            known = found.get(trace["traceID"])
            if known is None or len(known["spans"]) < len(trace["spans"]):
                found[trace["traceID"]] = trace
        if len(traces) >= PAGE and high - low > NARROWEST_US:
            middle = (low + high) // 2
            windows += [(low, middle), (middle + 1, high)]
    return list(found.values())


def _get(
    requester: Requester, profile: Profile, path: str, *, timeout_s: float, absent: bool = False
) -> dict[str, Any] | None:
    jaeger = source(profile)
    service = jaeger.service
    reply = requester.send(service, "GET", path, step="traces", trace=False, timeout_s=timeout_s, port=jaeger.port)
    if absent and reply.status == HTTPStatus.NOT_FOUND:
        return None
    if reply.status != HTTPStatus.OK:
        message = f"{service} answered {reply.status} to {path.partition('?')[0]}: {reply.body[:200]!r}"
        raise JaegerError(message)
    try:
        value = msgspec.json.decode(reply.body)
    except msgspec.DecodeError as error:
        message = f"{service} answered {path.partition('?')[0]} with something that is not JSON: {reply.body[:80]!r}"
        raise JaegerError(message) from error
    return value if isinstance(value, dict) else None
