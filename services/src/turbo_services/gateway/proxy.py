"""Passing requests on, as streams."""

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Final

from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from turbo_services.common.errors import body_of
from turbo_services.common.peers import Upstream, UpstreamAnswer, UpstreamError, UpstreamTimeoutError
from turbo_services.gateway.routes import GatewayRoute, Table, is_safe

# RFC 9110 7.6.1, and what RFC 2616 13.5.1 listed.
_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Set anew: the trace context by the client span, the rest by `_forwarded`.
_REPLACED: Final = frozenset((b"host", b"traceparent", b"tracestate", b"x-request-id"))
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

log = logging.getLogger(__name__)


class Proxy:
    """Answers every request by the upstream of its route."""

    def __init__(self, table: Callable[[], Table], upstream: Upstream) -> None:
        self._table = table
        self._upstream = upstream

    async def handle(self, request: Request) -> Response:
        """Answer ``request``; 404 with ``x-turbo-gateway: no-route``, 502 or 504 when there is no upstream answer."""
        path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        request_id = request.headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        span = trace.get_current_span()
        span.set_attribute("turbo.request_id", request_id)
        if not is_safe(path):
            return _error(400, "bad_request", "the path walks upwards", request_id)
        match = self._table().match(path)
        if match is None:
            return _error(404, "no_route", f"no route leads to {path}", request_id, {"x-turbo-gateway": "no-route"})
        route, rest = match
        request.scope["turbo.route"] = route.path_prefix
        span.update_name(f"{request.method} {route.path_prefix}")
        span.set_attributes({"http.route": route.path_prefix, "turbo.upstream": route.upstream_url})
        return await self._pass_on(request, route, rest, request_id)

    async def _pass_on(self, request: Request, route: GatewayRoute, rest: str, request_id: str) -> Response:
        query = request.scope.get("query_string", b"").decode("latin-1")
        target = route.upstream_url.rstrip("/") + rest + (f"?{query}" if query else "")
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        try:
            answer = await self._upstream.send(
                request.method,
                target,
                headers=_forwarded(request, route, request_id),
                body=request.stream() if has_body else None,
                timeout_s=route.timeout_ms / 1000,
            )
        except UpstreamTimeoutError as error:
            return self._failed(504, "upstream_timeout", route, error, request_id)
        except UpstreamError as error:
            return self._failed(502, "upstream_unavailable", route, error, request_id)
        response = _Relay(answer, route)
        kept = [(name, value) for name, value in _without_hops(answer.headers) if name != b"x-request-id"]
        response.raw_headers = [*kept, (b"x-request-id", request_id.encode())]
        return response

    def _failed(self, status: int, code: str, route: GatewayRoute, error: Exception, request_id: str) -> Response:
        message = f"{route.upstream_url}: {error}"
        span = trace.get_current_span()
        span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, message))
        log.warning("no answer from upstream", extra={"upstream_url": route.upstream_url, "error": str(error)})
        return _error(status, code, message, request_id)


class _Relay(StreamingResponse):
    """The upstream's answer, passed on as it arrives; given up when the client goes away, even before a first byte."""

    def __init__(self, answer: UpstreamAnswer, route: GatewayRoute) -> None:
        super().__init__(_body(answer.chunks(), route), answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.close()


async def _body(chunks: AsyncIterator[bytes], route: GatewayRoute) -> AsyncIterator[bytes]:
    """The upstream's body; when it breaks off, so does the answer: it must not look complete."""
    try:
        async for chunk in chunks:
            yield chunk
    except asyncio.CancelledError:
        raise
    except UpstreamError as error:
        raise UpstreamError(f"{route.upstream_url} broke off in the middle of its answer: {error}") from error


def _error(status: int, code: str, message: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    sent = {"x-request-id": request_id, **(headers or {})}
    return Response(body_of(code, message), status, sent, media_type="application/json")


def _without_hops(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers an intermediary passes on, in order, repeated ones repeated."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {token.strip().lower() for name, value in lower if name == b"connection" for token in value.split(b",")}
    return [(name, value) for name, value in lower if name not in _HOP_BY_HOP and name not in named]


def _forwarded(request: Request, route: GatewayRoute, request_id: str) -> list[tuple[bytes, bytes]]:
    set_by_route = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in route.headers.items()}
    client = request.client.host if request.client else "unknown"
    before = request.headers.get("x-forwarded-for")
    ours = {
        b"x-forwarded-for": f"{before}, {client}" if before else client,
        b"x-forwarded-proto": request.headers.get("x-forwarded-proto") or request.url.scheme,
        b"x-forwarded-host": request.headers.get("x-forwarded-host") or request.headers.get("host", ""),
        b"x-request-id": request_id,
    }
    if route.strip_prefix and route.path_prefix.strip("/"):
        ours[b"x-forwarded-prefix"] = route.path_prefix.rstrip("/")
    replaced = _REPLACED | ours.keys() | set_by_route.keys()
    kept = [(name, value) for name, value in _without_hops(request.headers.raw) if name not in replaced]
    return [*kept, *((name, value.encode("latin-1")) for name, value in ours.items()), *set_by_route.items()]
