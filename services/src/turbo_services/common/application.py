"""The frame of every service: its operations plus health, metrics, OpenAPI, errors, access log and traces."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import msgspec
from opentelemetry import trace
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turbo_services import __version__
from turbo_services.common import telemetry
from turbo_services.common.changes import Changes
from turbo_services.common.errors import ApiError, body_of
from turbo_services.common.operations import Operation, openapi, perform, reply

log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[None]]
"""Raises `ApiError` with the reason when a dependency is not reachable."""
Lifespan = Callable[[], AbstractAsyncContextManager[None]]
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
_PROBES: Final = ("/healthz", "/readyz", "/metrics")


class Health(msgspec.Struct, frozen=True):
    """Whether the process is alive."""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether the service can do its work: each dependency is ``ok`` or the reason why not."""

    status: str
    dependencies: dict[str, str]


class Metrics:
    """The metrics of a service, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "http_requests_total", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds", "Time to the end of an answer.", ("route",), registry=self.registry
        )


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def make_application(
    service: str,
    operations: Sequence[Operation],
    *,
    checks: Mapping[str, Check] | None = None,
    routes: Sequence[BaseRoute] = (),
    lifespan: Lifespan = _nothing,
    changes: Changes | None = None,
    metrics: Metrics | None = None,
    advisory_checks: bool = False,
) -> ASGIApp:
    """The ASGI application of a service.

    Args:
        service: its name.
        operations: what it promises; they make ``/openapi.json``.
        checks: its dependencies, for ``/readyz``.
        routes: anything that is no JSON operation (pages, a proxy); matched last.
        lifespan: runs around the serving.
        changes: closed when the process is told to stop, so that held answers go out at once.
        metrics: given when the service counts more than requests.
        advisory_checks: tell of dependencies that are away, but stay ready.
    """
    counted = metrics or Metrics()
    checks = checks or {}
    ready = False  # the last answer: only a change of it is worth a line at info

    async def healthz(_request: Request) -> Response:
        return reply(Health(status="ok"))

    async def readyz(_request: Request) -> Response:
        nonlocal ready
        with telemetry.untraced():
            states = await asyncio.gather(*(_state(check) for check in checks.values()))
        dependencies = dict(zip(checks, states, strict=True))
        good = advisory_checks or all(state == "ok" for state in states)
        if good != ready:
            log.info("ready" if good else "not ready", extra={"dependencies": dependencies})
        ready = good
        return reply(Readiness("ok" if good else "unavailable", dependencies), 200 if good else 503)

    async def metrics_page(_request: Request) -> Response:
        return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_LATEST)

    description = msgspec.json.encode(openapi(service, __version__, operations))

    async def openapi_page(_request: Request) -> Response:
        return Response(description, media_type="application/json")

    @asynccontextmanager
    async def span_of_life(_app: Starlette) -> AsyncIterator[None]:
        async with lifespan():
            yield

    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_page),
            Route("/openapi.json", openapi_page),
            *(_route(path, methods) for path, methods in by_path.items()),
            *routes,
        ],
        lifespan=span_of_life,
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _unexpected},
    )
    app.router.redirect_slashes = False
    templates = [getattr(route, "path", "") for route in app.routes]
    traced = telemetry.middleware(_AccessLog(app, counted), [t for t in templates if t])
    traced.changes = changes  # type: ignore[attr-defined]
    return traced


async def _state(check: Check) -> str:
    try:
        await check()
    except ApiError as error:
        return str(error)
    return "ok"


def _route(path: str, methods: Mapping[str, Operation]) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope["turbo.route"] = path
        method = "GET" if request.method == "HEAD" else request.method
        return await perform(methods[method], request)

    return Route(path, endpoint, methods=list(methods))


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {"retry-after": "1"} if error.status == 503 else None  # noqa: PLR2004
    return Response(body_of(error.code, str(error)), error.status, headers, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} is not possible at {request.url.path}",
    }.get(error.status_code, error.detail)
    code = _CODES.get(error.status_code, "error")
    return Response(body_of(code, message), error.status_code, error.headers, media_type="application/json")


async def _unexpected(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this answer; `_AccessLog` logs it with its trace.
    return Response(body_of("internal", "an unexpected error; see the log"), 500, media_type="application/json")


class _AccessLog:
    """Counts and logs every answer; sits inside the server span, so that lines carry its ids."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        fields: dict[str, Any] = {"method": scope["method"], "path": scope["path"]}
        try:
            await self._app(scope, receive, note)
        except Exception as error:
            span = trace.get_current_span()
            span.record_exception(error)
            span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
            log.exception("unexpected error", extra=fields)
        finally:
            elapsed_s = time.perf_counter() - started
            route = scope.get("turbo.route", scope["path"] if scope["path"] in _PROBES else "other")
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(elapsed_s)
            quiet = scope["path"] in _PROBES or status == 304  # noqa: PLR2004
            fields |= {"status": status, "duration_ms": round(elapsed_s * 1000, 3)}
            log.log(logging.DEBUG if quiet else logging.INFO, "request", extra=fields)
