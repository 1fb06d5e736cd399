"""builder's HTTP API."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from turbo_services.builder.runner import Runner, initial_steps
from turbo_services.builder.store import BuildStore, Job, LogLine, metadata
from turbo_services.common import pages, telemetry
from turbo_services.common.application import make_application
from turbo_services.common.changes import POLL_HEADERS, Changes, conditional
from turbo_services.common.clock import now
from turbo_services.common.errors import BadRequest, ErrorBody, NotFound
from turbo_services.common.operations import Call, Operation, reply
from turbo_services.common.peers import Peer
from turbo_services.common.settings import Port, Settings, Url
from turbo_services.common.storage import open_database
from turbo_services.common.wire import Build, BuildRequest, BuildStatus, Graph

HEARTBEAT_S: Final = 15.0


class BuilderSettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """builder's settings."""

    port: Port = 8082
    registry_url: Url = "http://registry:8081"
    registry_patience_s: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    """Seconds a build asks a registry that is away."""


class BuildList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of builds, newest first."""

    builds: list[Build]
    next_page_token: str | UnsetType = UNSET


class GraphList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What shall run: one graph an environment."""

    graphs: list[Graph]
    traceparents: dict[str, str]
    """By environment: W3C trace context of the request that asked for the build."""
    store: str
    """Names the builder's data. Only the absence of a graph from the store that held it means that it was deleted."""


class Done(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The last event of a build's log."""

    status: BuildStatus
    error_message: str | UnsetType = UNSET


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of the list."""

    environment_id: str | None = None
    page_size: pages.PageSize = pages.DEFAULT_PAGE_SIZE
    page_token: str | None = None


class Builder:
    """The handlers."""

    def __init__(self, store: BuildStore, runner: Runner, changes: Changes) -> None:
        self._store = store
        self._runner = runner
        self._changes = changes

    async def create_build(self, call: Call) -> Response:
        """``POST /v1/builds``."""
        request = call.body_as(BuildRequest)
        build = Build(
            id=f"build-{uuid.uuid4().hex[:12]}",
            environment_id=request.environment_id,
            root_package_name=request.root_package_name,
            root_package_version=request.root_package_version,
            status="pending",
            steps=initial_steps(),
            artifacts=[],
            created_at=now(),
        )
        key = call.request.headers.get("idempotency-key")
        job = Job(build=build, request=request, traceparent=telemetry.current_traceparent())
        taken = self._store.add(job, key)
        if taken.id == build.id:
            self._runner.start(job)
            self._changes.notify()
        return reply(taken, 202, {"location": f"/v1/builds/{taken.id}"})

    async def list_builds(self, call: Call) -> Response:
        """``GET /v1/builds``."""
        query = call.query_as(ListQuery)
        before = None if query.page_token is None else int(pages.decode(query.page_token, (int,))[0])
        found = self._store.page(query.environment_id, before, query.page_size + 1)
        page = found[: query.page_size]
        token = pages.encode([page[-1][0]]) if len(found) > len(page) else UNSET
        return reply(BuildList(builds=[build for _, build in page], next_page_token=token))

    async def get_build(self, call: Call) -> Response:
        """``GET /v1/builds/{id}``."""
        build_id = call.path("id")
        return await conditional(call.request, lambda: msgspec.json.encode(self._find(build_id)), self._changes)

    async def get_logs(self, call: Call) -> Response:
        """``GET /v1/builds/{id}/logs``."""
        build = self._find(call.path("id"))
        last = call.request.headers.get("last-event-id", "0")
        if not last.isdecimal() or len(last) > 18:  # noqa: PLR2004 - a 64 bit integer
            raise BadRequest(f"Last-Event-ID {last[:40]!r} is not a number this stream gave out")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(build.id, int(last)), media_type="text/event-stream", headers=headers)

    async def _events(self, build_id: str, last: int) -> AsyncIterator[bytes]:
        """Server-sent events (WHATWG HTML 9.2): the lines after ``last``, then live ones, then ``done``."""
        while True:
            mark = self._changes.mark()
            build = self._find(build_id)
            for line in self._store.lines(build_id, last):
                last = line.seq
                yield _event(line.seq, "log", line)
            if build.status in ("succeeded", "failed"):
                yield _event(last + 1, "done", Done(status=build.status, error_message=build.error_message))
                return
            if not await self._changes.wait(mark, HEARTBEAT_S):
                if self._changes.closed:
                    return
                yield b": still running\n\n"

    async def get_graphs(self, call: Call) -> Response:
        """``GET /v1/graphs``."""

        def render() -> bytes:
            traced = self._store.graphs()
            parents = {graph.environment_id: traceparent for graph, traceparent in traced if traceparent}
            graphs = [graph for graph, _ in traced]
            return msgspec.json.encode(GraphList(graphs=graphs, traceparents=parents, store=self._store.id))

        return await conditional(call.request, render, self._changes)

    async def delete_graph(self, call: Call) -> Response:
        """``DELETE /v1/graphs/{environmentId}``."""
        environment_id = call.path("environmentId")
        self._store.retire(environment_id)
        self._runner.cancel(environment_id, "the environment was deleted")
        return Response(status_code=204)

    def _find(self, build_id: str) -> Build:
        build = self._store.get(build_id)
        if build is None:
            raise NotFound(f"there is no build {build_id!r}")
        return build


def _event(number: int, kind: str, data: LogLine | Done) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


def operations(builder: Builder) -> list[Operation]:
    """What builder promises."""
    text = {"schema": {"type": "string"}, "in": "header", "required": False}
    return [
        Operation(
            "POST",
            "/v1/builds",
            "Build an environment",
            builder.create_build,
            {202: Build, 400: ErrorBody, 413: ErrorBody, 415: ErrorBody},
            body=BuildRequest,
            headers=[{"name": "Idempotency-Key", "description": "the same key asks for one build only", **text}],
        ),
        Operation(
            "GET", "/v1/builds", "List builds, newest first", builder.list_builds,
            {200: BuildList, 400: ErrorBody}, query=ListQuery,
        ),
        Operation(
            "GET", "/v1/builds/{id}", "A build", builder.get_build,
            {200: Build, 304: None, 404: ErrorBody}, headers=POLL_HEADERS,
        ),
        Operation(
            "GET", "/v1/builds/{id}/logs", "A build's log as server-sent events", builder.get_logs,
            {200: "text/event-stream", 400: ErrorBody, 404: ErrorBody},
            headers=[{"name": "Last-Event-ID", "description": "only what came after it", **text}],
        ),
        Operation(
            "GET", "/v1/graphs", "The graph of every live environment's newest successful build",
            builder.get_graphs, {200: GraphList, 304: None}, headers=POLL_HEADERS,
        ),
        Operation(
            "DELETE", "/v1/graphs/{environmentId}", "Take an environment's graph away", builder.delete_graph,
            {204: None},
        ),
    ]  # fmt: skip


def build(settings: BuilderSettings) -> ASGIApp:
    """The service."""
    store = BuildStore(open_database(settings.data_dir, "builder", metadata))
    registry = Peer("registry", settings.registry_url)
    changes = Changes()
    runner = Runner(store, registry, changes, settings.registry_patience_s)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with runner.running():
            yield
        await registry.close()

    return make_application(
        "builder",
        operations(Builder(store, runner, changes)),
        checks={"registry": registry.check},
        lifespan=lifespan,
        changes=changes,
    )
