"""The HTTP API of the operator. Reads are answered from memory and never wait for writes.

A graph that is posted is checked and carried out in threads kept for that alone: neither the 0.4 s that a large one
takes to check nor the 30 s that it may take to carry out holds up a read, a probe or a deletion.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from socket import gethostname
from typing import Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.util.http import ExcludeList
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from turbo_operator.core.graph import Refusal
from turbo_operator.core.normalize import normalize
from turbo_operator.graphs import GraphWriteError
from turbo_operator.openapi import document
from turbo_operator.runtime import Operator, UnknownEnvironmentError
from turbo_operator.telemetry import current_traceparent

LARGEST_BODY = 4 * 1024 * 1024
MOST_POSTS = 64
"""Graphs that may be posted at a time; more are refused, for each is kept in memory until it is carried out."""
_POSTS_AT_WORK = 16
_LONGEST_WAIT_S = 60.0
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=,|;|$)", re.IGNORECASE)
_UNTRACED = ExcludeList([r"^[a-z]+://[^/]+/(healthz|readyz|metrics|openapi\.json)(\?|$)"])

Handler = Callable[[Request], Awaitable[Response]]


class ApiProblem(Exception):
    """An answer other than the one hoped for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Json(JSONResponse):
    """JSON in which text that no encoding has is replaced: an answer is for everybody, whoever wrote a part of it."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def _answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return _Json({"error": {"code": code, "message": message}}, status, headers)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    return _answer(error.status, error.code, str(error))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, GraphWriteError)
    return _answer(error.status, error.code, str(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    headers = dict(error.headers or {})
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _answer(error.status_code, codes.get(error.status_code, "error"), message, headers)


async def _internal(_: Request, error: Exception) -> Response:
    return _answer(500, "internal", f"{type(error).__name__}: see the operator's log")


class Api:
    """The handlers."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._threads = ThreadPoolExecutor(_POSTS_AT_WORK, "post")
        self._posts = 0

    async def reconcile(self, request: Request) -> Response:
        """``POST /v1/reconcile``."""
        body = await _body(request)
        if self._posts >= MOST_POSTS:
            raise ApiProblem(503, "busy", f"{MOST_POSTS} graphs are being carried out or wait for it; try again later")
        self._posts += 1
        try:
            loop, context = asyncio.get_running_loop(), copy_context()
            return await loop.run_in_executor(self._threads, context.run, self._carry_out, body)
        finally:
            self._posts -= 1

    def _carry_out(self, body: bytes) -> Response:
        """Check a posted graph, write it and wait until it is carried out."""
        spec = _parsed(body)
        checked = normalize(spec)
        if isinstance(checked, Refusal):
            raise ApiProblem(400, "invalid_graph", "; ".join(checked.problems))
        self._synced()
        actions, report = self._operator.reconcile(spec, current_traceparent())
        return _Json({"actions": actions, "status": report})

    async def statuses(self, _: Request) -> Response:
        """``GET /v1/status``."""
        self._synced()
        reports = b",".join(self._operator.reports())
        return Response(b'{"environments":[' + reports + b"]}", media_type="application/json")

    async def status(self, request: Request) -> Response:
        """``GET /v1/status/{environmentId}``."""
        self._synced()
        report = self._operator.report(request.path_params["environment_id"])
        if report is None:
            raise ApiProblem(404, "not_found", f"no environment {request.path_params['environment_id']!r}")
        return Response(report, media_type="application/json")

    async def gateway_config(self, request: Request) -> Response:
        """``GET /v1/gateway-config``."""
        self._synced()
        match = _WAIT.search(",".join(request.headers.getlist("prefer")))
        wait_s = min(float(match.group(1)), _LONGEST_WAIT_S) if match else 0.0
        etags = {
            tag.strip().removeprefix("W/")
            for value in request.headers.getlist("if-none-match")
            for tag in value.split(",")
        }
        headers = {"cache-control": "no-cache", "vary": "prefer"}
        if wait_s:
            headers["preference-applied"] = f"wait={wait_s:.0f}"
        found = await self._operator.routes.document_other_than(etags, wait_s)
        if found is None:
            return Response(status_code=304, headers={**headers, "etag": self._operator.routes.document()[1]})
        body, etag = found
        return Response(body, media_type="application/json", headers={**headers, "etag": etag})

    async def actions(self, request: Request) -> Response:
        """``GET /v1/actions?since&environment``."""
        unknown = sorted(set(request.query_params) - {"since", "environment"})
        if unknown:
            raise ApiProblem(400, "unknown_parameter", f"unknown query parameter {unknown[0]!r}")
        since = request.query_params.get("since", "0")
        if not since.isdecimal() or len(since) > 18:  # noqa: PLR2004 - a 64 bit integer
            raise ApiProblem(400, "invalid_parameter", f"since={since[:40]!r} is not a number")
        log = self._operator.actions
        known = {"newest": log.newest, "oldest": log.oldest}
        records = log.since(int(since), request.query_params.get("environment"))
        return _Json({"actions": records, **known, "instance": gethostname(), "started": log.started})

    async def delete_environment(self, request: Request) -> Response:
        """``DELETE /v1/environments/{environmentId}``."""
        self._synced()
        environment_id = request.path_params["environment_id"]
        try:
            await run_in_threadpool(self._operator.delete, environment_id)
        except UnknownEnvironmentError as error:
            raise ApiProblem(404, "not_found", f"no environment {environment_id!r}") from error
        return _Json({"environmentId": environment_id, "phase": "Deleting"}, 202)

    async def healthz(self, _: Request) -> Response:
        """``GET /healthz``: whether the loop is alive."""
        stuck = self._operator.health.stuck()
        return _Json({"status": "stuck", "reason": stuck}, 503) if stuck else _Json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """``GET /readyz``: whether the caches are synced and fed."""
        checks = self._operator.health.checks()
        bad = {name: state for name, state in checks.items() if state != "ok"}
        status = "not ready" if bad else "ready"
        return _Json({"status": status, "mode": self._operator.mode, "checks": checks}, 503 if bad else 200)

    async def metrics(self, _: Request) -> Response:
        """``GET /metrics``."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, _: Request) -> Response:
        """``GET /openapi.json``."""
        return _Json(document())

    def _synced(self) -> None:
        """An answer from an empty cache would say that nothing exists."""
        if not self._operator.synced():
            raise ApiProblem(503, "not_ready", "the APIGraphs were not read yet")


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiProblem(415, "unsupported_media_type", f"content-type {media_type!r}: must be application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise ApiProblem(413, "too_large", f"the body is larger than {LARGEST_BODY} bytes")
    return body


def _parsed(body: bytes) -> Any:
    try:
        document = json.loads(body.decode())  # bytes may hold half a surrogate pair
        if b"\\u" in body:
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair cannot be written anywhere
    except (ValueError, RecursionError) as error:
        raise ApiProblem(400, "invalid_json", f"the body is not JSON that can be used: {error}") from error
    return document


def make_app(operator: Operator) -> ASGIApp:
    """The ASGI application, with a server span for each request that is not a probe."""
    api = Api(operator)
    routes: list[tuple[str, str, Handler]] = [
        ("POST", "/v1/reconcile", api.reconcile),
        ("GET", "/v1/status", api.statuses),
        ("GET", "/v1/status/{environment_id:path}", api.status),
        ("GET", "/v1/gateway-config", api.gateway_config),
        ("GET", "/v1/actions", api.actions),
        ("DELETE", "/v1/environments/{environment_id:path}", api.delete_environment),
        ("GET", "/healthz", api.healthz),
        ("GET", "/readyz", api.readyz),
        ("GET", "/metrics", api.metrics),
        ("GET", "/openapi.json", api.openapi),
    ]
    app = Starlette(
        routes=[Route(path, handler, methods=[method]) for method, path, handler in routes],
        exception_handlers={
            ApiProblem: _problem,
            GraphWriteError: _refused,
            HTTPException: _http,
            Exception: _internal,
        },
    )
    patterns = [(re.compile(re.sub(r"\{\w+(:path)?\}", ".+", path) + r"\Z"), path) for _, path, _ in routes]

    def details(scope: Scope) -> tuple[str, dict[str, Any]]:
        route = next((path for pattern, path in patterns if pattern.match(scope.get("path", ""))), None)
        name = f"{scope.get('method', '')} {(route or '').replace(':path', '')}".strip()
        return name, {"http.route": route} if route else {}

    traced: ASGIApp = OpenTelemetryMiddleware(
        app, excluded_urls=_UNTRACED, default_span_details=details, exclude_spans=["receive", "send"]
    )
    return traced
