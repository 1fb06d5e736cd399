"""console's pages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from jinja2 import Environment as Jinja
from jinja2 import FileSystemLoader, StrictUndefined
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from turbo_services.common import telemetry
from turbo_services.common.application import make_application
from turbo_services.common.changes import Changes
from turbo_services.common.errors import ApiError
from turbo_services.common.peers import Peer, escape
from turbo_services.common.settings import Port, Settings, Url
from turbo_services.console.data import Part, Platform

_HERE: Final = Path(__file__).parent
_SECURITY: Final = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_ACTIONS: Final[dict[str, tuple[str, str, dict[str, str] | None]]] = {
    "rebuild": ("POST", "/builds", {}),
    "promote": ("POST", "/promote", {}),
    "delete": ("DELETE", "", None),
}


class ConsoleSettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """console's settings; the names of the URLs are those of the front end it replaces."""

    port: Port = 3000
    vite_registry_url: Url = "http://registry:8081"
    vite_builder_url: Url = "http://builder:8082"
    vite_envmanager_url: Url = "http://envmanager:8083"
    vite_operator_url: Url = "http://operator:8084"


class Console:
    """The handlers."""

    def __init__(self, platform: Platform, changes: Changes) -> None:
        self._platform = platform
        self._changes = changes
        self._jinja = Jinja(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters["seg"] = lambda text: quote(str(text), safe="")
        self._jinja.tests["given"] = lambda value: value is not UNSET and value is not None and value != ""

    def _page(self, template: str, http_status: int = 200, **values: Any) -> Response:
        html = self._jinja.get_template(template).render(**values)
        return Response(html, http_status, _SECURITY, media_type="text/html; charset=utf-8")

    def _missing(self, part: Part[Any], back: str, back_name: str) -> Response:
        """The page of something that is not there, or cannot be asked for."""
        title = "Not found" if part.missing else "Not available"
        status = 404 if part.missing else 503
        return self._page("problem.html", status, title=title, error=part.error, back=back, back_name=back_name)

    async def overview(self, _request: Request) -> Response:
        """``/``: what there is, and whether the services answer."""
        platform = self._platform
        health, packages, environments, builds = await asyncio.gather(
            platform.health(), platform.packages(), platform.environments(), platform.builds()
        )
        return self._page("overview.html", health=health, packages=packages, environments=environments, builds=builds)

    async def packages(self, _request: Request) -> Response:
        """``/packages``."""
        return self._page("packages.html", packages=await self._platform.packages())

    async def package(self, request: Request) -> Response:
        """``/packages/{name}``: all its versions."""
        found = await self._platform.packages(request.path_params["name"])
        if found.value is None:
            return self._missing(found, "/packages", "All packages")
        return self._page("package.html", versions=found.value)

    async def environments(self, _request: Request) -> Response:
        """``/environments``: each with its phase."""
        environments = await self._platform.environments()
        ids = [environment.id for environment in environments.value or []]
        statuses = await asyncio.gather(*(self._platform.status(environment_id) for environment_id in ids))
        return self._page(
            "environments.html", environments=environments, statuses=dict(zip(ids, statuses, strict=True))
        )

    async def environment(self, request: Request) -> Response:
        """``/environments/{id}``: build, components, routes, actions."""
        environment_id = request.path_params["id"]
        # The page asks for itself again and again while it is open: only the first time is worth a trace.
        if request.query_params.get("refresh"):
            with telemetry.untraced():
                environment, status = await self._platform.environment(environment_id)
        else:
            environment, status = await self._platform.environment(environment_id)
        if environment.value is None:
            return self._missing(environment, "/environments", "All environments")
        refused = request.query_params.get("refused", "")[:500]
        return self._page("environment.html", environment=environment.value, status=status, refused=refused)

    async def act(self, request: Request) -> Response:
        """``POST /environments/{id}/{action}``: a button was pressed."""
        environment_id, action = request.path_params["id"], request.path_params["action"]
        if not _same_origin(request):
            error = "This request came from another site."
            return self._page("problem.html", 403, title="Refused", error=error, back="/", back_name="Overview")
        if action not in _ACTIONS:
            return await self.nothing(request)
        method, path, body = _ACTIONS[action]
        problem = await self._platform.act(method, environment_id, path, body)
        query = f"?refused={quote(problem, safe='')}" if problem else ""
        return RedirectResponse(f"/environments/{escape(environment_id)}{query}", 303)

    async def builds(self, _request: Request) -> Response:
        """``/builds``."""
        return self._page("builds.html", builds=await self._platform.builds())

    async def build(self, request: Request) -> Response:
        """``/builds/{id}``: its steps, artifacts and live log."""
        build = await self._platform.build(request.path_params["id"])
        if build.value is None:
            return self._missing(build, "/builds", "All builds")
        return self._page("build.html", build=build.value)

    async def build_log(self, request: Request) -> Response:
        """``/builds/{id}/log``: builder's event stream, passed on (the browser cannot reach builder)."""
        path = f"/v1/builds/{escape(request.path_params['id'])}/logs"
        last = request.headers.get("last-event-id")
        headers = {"last-event-id": last} if last else {}

        async def events() -> AsyncIterator[bytes]:
            try:
                async for chunk in self._platform.builder.stream(path, headers):
                    yield chunk
                    if self._changes.closed:
                        return
            except ApiError as error:
                text = str(error).replace("\n", " ")
                yield f"event: problem\ndata: {text}\n\n".encode()

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def nothing(self, request: Request) -> Response:
        """Any other path."""
        part: Part[Any] = Part(error=f"There is no page {request.url.path}", missing=True)
        return self._missing(part, "/", "Overview")


def _same_origin(request: Request) -> bool:
    """Whether a form was sent by a page of ours (OWASP: Fetch Metadata, else Origin)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def build(settings: ConsoleSettings) -> ASGIApp:
    """The service."""
    platform = Platform(
        registry=Peer("registry", settings.vite_registry_url),
        builder=Peer("builder", settings.vite_builder_url),
        envmanager=Peer("envmanager", settings.vite_envmanager_url),
        operator=Peer("operator", settings.vite_operator_url),
    )
    changes = Changes()
    console = Console(platform, changes)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await platform.close()

    return make_application(
        "console",
        [],
        checks={peer.name: peer.check for peer in platform.peers},
        # A console that is taken away when a service is could not show that it is.
        advisory_checks=True,
        routes=[
            Route("/", console.overview),
            Route("/packages", console.packages),
            Route("/packages/{name:path}", console.package),
            Route("/environments", console.environments),
            Route("/environments/{id}", console.environment),
            Route("/environments/{id}/{action}", console.act, methods=["POST"]),
            Route("/builds", console.builds),
            Route("/builds/{id}", console.build),
            Route("/builds/{id}/log", console.build_log),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
            Route("/{path:path}", console.nothing),
        ],
        lifespan=lifespan,
        changes=changes,
    )
