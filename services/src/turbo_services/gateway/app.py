"""gateway's application: its own pages, and everything else to the upstreams."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from turbo_services.common.application import Metrics, make_application
from turbo_services.common.operations import Call, Operation, reply
from turbo_services.common.peers import Upstream
from turbo_services.common.settings import Port, Settings
from turbo_services.gateway.proxy import Proxy
from turbo_services.gateway.routes import GatewayRoute
from turbo_services.gateway.source import Source

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class GatewaySettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """gateway's settings."""

    port: Port = 8080
    config_url: str | None = None
    """Where the routes come from: an http(s) or file URL; unset = none."""


class TableView(msgspec.Struct, frozen=True, kw_only=True):
    """The routes in force, and how they came about."""

    routes: list[GatewayRoute]
    shadowed: list[GatewayRoute]
    source: str | UnsetType = UNSET
    age_s: float | UnsetType = UNSET
    error: str | UnsetType = UNSET


def build(settings: GatewaySettings) -> ASGIApp:
    """The service."""
    metrics = Metrics()
    source = Source(settings.config_url, metrics.registry)
    upstream = Upstream()
    proxy = Proxy(lambda: source.table, upstream)

    async def get_routes(_call: Call) -> Response:
        loaded = source.loaded_at
        view = TableView(
            routes=source.table.routes,
            shadowed=source.table.shadowed,
            source=source.url or UNSET,
            age_s=UNSET if loaded is None else round(time.monotonic() - loaded, 3),
            error=source.error or UNSET,
        )
        return reply(view)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with source.followed():
            yield
        await upstream.close()

    return make_application(
        "gateway",
        [Operation("GET", "/-/routes", "The routing table, its source and its age", get_routes, {200: TableView})],
        checks={"configuration": source.check},
        routes=[Route("/{path:path}", proxy.handle, methods=_METHODS)],
        lifespan=lifespan,
        metrics=metrics,
    )
