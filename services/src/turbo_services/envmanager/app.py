"""envmanager's HTTP API."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace
from starlette.responses import Response
from starlette.types import ASGIApp

from turbo_services.common import pages, telemetry
from turbo_services.common.application import make_application
from turbo_services.common.changes import Changes
from turbo_services.common.clock import now
from turbo_services.common.errors import ApiError, BadRequest, Conflict, ErrorBody, NotFound, Unavailable, Unprocessable
from turbo_services.common.operations import Call, Operation, reply
from turbo_services.common.peers import Peer, escape
from turbo_services.common.settings import Port, Settings, Url
from turbo_services.common.storage import open_database
from turbo_services.common.wire import (
    Build,
    Closure,
    Constraint,
    Environment,
    EnvironmentStatus,
    GraphStatus,
    HostName,
    Override,
    PackageName,
    Strict,
)
from turbo_services.envmanager import phase
from turbo_services.envmanager.driver import Driver
from turbo_services.envmanager.store import EnvironmentStore, Record, Wanted, metadata

SUBMIT_WAIT_S: Final = 3.0
"""A request that asks for a build waits this long for builder to take it."""
_ASK_S: Final = 2.0
_SLUG_LENGTH: Final = 40


class EnvManagerSettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """envmanager's settings."""

    port: Port = 8083
    registry_url: Url = "http://registry:8081"
    builder_url: Url = "http://builder:8082"
    operator_url: Url = "http://operator:8084"
    recheck_s: Annotated[float, Meta(gt=0)] = 15.0
    """How often builder is asked whether it still has an environment's build: its state may go with its pod."""


class CreateRequest(Strict, frozen=True, kw_only=True):
    """A new environment."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$(?!\n)")]
    base_root_package: PackageName
    base_root_version: Constraint | UnsetType = UNSET
    branch: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    created_by: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    overrides: list[Override] = []  # noqa: RUF012 - msgspec copies it
    ingress_host: HostName | UnsetType = UNSET


class RebuildRequest(Strict, frozen=True, kw_only=True):
    """A new build of an environment; ``root_version`` counts for this build only."""

    root_version: Constraint | UnsetType = UNSET


class OverridesRequest(Strict, frozen=True, kw_only=True):
    """All overrides of an environment, instead of those it has."""

    overrides: list[Override]


class PromoteRequest(Strict, frozen=True, kw_only=True):
    """Nothing is to be said."""


class EnvironmentList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of environments, oldest first."""

    environments: list[Environment]
    next_page_token: str | UnsetType = UNSET


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page."""

    page_size: pages.PageSize = pages.DEFAULT_PAGE_SIZE
    page_token: str | None = None


class EnvManager:
    """The handlers."""

    def __init__(
        self,
        store: EnvironmentStore,
        driver: Driver,
        changes: Changes,
        *,
        registry: Peer,
        builder: Peer,
        operator: Peer,
    ) -> None:
        self._store = store
        self._driver = driver
        self._changes = changes
        self._registry = registry
        self._builder = builder
        self._operator = operator

    async def create_environment(self, call: Call) -> Response:
        """``POST /v1/environments``."""
        request = call.body_as(CreateRequest)
        version = request.base_root_version or "latest"
        components = await self._components(request.base_root_package, version, request.overrides)
        suffix = uuid.uuid4().hex[:6]
        time = now()
        environment = Environment(
            id=f"env-{request.name[:_SLUG_LENGTH].strip('-')}-{suffix}",
            name=request.name,
            status="creating",
            base_root_package=request.base_root_package,
            base_root_version=request.base_root_version or UNSET,
            branch=request.branch,
            created_by=request.created_by,
            ingress_host=request.ingress_host,
            overrides=request.overrides,
            created_at=time,
            updated_at=time,
        )
        self._store.add(Record(environment=environment, wanted=_wanted(version), root_version=version), components)
        created = await self._begin(environment.id)
        return reply(created, 201, {"location": f"/v1/environments/{created.id}"})

    async def list_environments(self, call: Call) -> Response:
        """``GET /v1/environments``."""
        query = call.query_as(ListQuery)
        after = 0 if query.page_token is None else int(pages.decode(query.page_token, (int,))[0])
        found = self._store.page(after, query.page_size + 1)
        page = found[: query.page_size]
        token = pages.encode([page[-1][0]]) if len(found) > len(page) else UNSET
        return reply(EnvironmentList(environments=[r.environment for _, r in page], next_page_token=token))

    async def get_environment(self, call: Call) -> Response:
        """``GET /v1/environments/{id}``."""
        return reply(self._find(call.path("id")).environment)

    async def create_build(self, call: Call) -> Response:
        """``POST /v1/environments/{id}/builds``."""
        environment = self._live(call.path("id")).environment
        version = call.body_as(RebuildRequest).root_version or environment.base_root_version or "latest"
        return await self._rebuild(environment.id, version, environment.overrides)

    async def set_overrides(self, call: Call) -> Response:
        """``POST /v1/environments/{id}/overrides``."""
        environment = self._live(call.path("id")).environment
        overrides = call.body_as(OverridesRequest).overrides
        return await self._rebuild(environment.id, environment.base_root_version or "latest", overrides)

    async def promote(self, call: Call) -> Response:
        """``POST /v1/environments/{id}/promote``: the versions that are built become the environment's own."""
        environment = self._live(call.path("id")).environment
        build_id = environment.current_build_id
        if environment.status != "ready" or not build_id:
            raise Conflict(f"environment {environment.id} is {environment.status}; only a ready one can be promoted")
        answer = await self._builder.get(f"/v1/builds/{escape(build_id)}")
        if answer.status != 200:  # noqa: PLR2004
            raise Unavailable(f"builder: {answer.status} {answer.message}")
        artifacts = {a.package_name: a.package_version for a in answer.decode(Build).artifacts}
        record = self._live(environment.id)
        if record.environment.current_build_id != build_id:
            raise Conflict(f"environment {environment.id} was built anew in the meantime")
        root = environment.base_root_package
        promoted = replace(
            record.environment,
            base_root_version=artifacts.pop(root),
            overrides=[Override(package_name=name, version=artifacts[name]) for name in sorted(artifacts)],
            promoted_at=now(),
            updated_at=now(),
        )
        self._store.save(replace(record, environment=promoted, root_version=promoted.base_root_version or ""))
        self._driver.kick(promoted.id)  # it waits with what was known before
        return reply(promoted)

    async def delete_environment(self, call: Call) -> Response:
        """``DELETE /v1/environments/{id}``."""
        record = self._find(call.path("id"))
        if record.environment.status != "deleting":
            deleting = replace(record.environment, status="deleting", message=UNSET, updated_at=now())
            record = replace(record, environment=deleting, wanted=None, traceparent=telemetry.current_traceparent())
            self._store.save(record)
            self._driver.kick(deleting.id)
        return reply(record.environment, 202)

    async def get_status(self, call: Call) -> Response:
        """``GET /v1/environments/{id}/status``."""
        environment = self._find(call.path("id")).environment
        answer = await self._ask(environment)
        # Asking took a while: judge what is known now.
        record = self._find(environment.id)
        if record.environment.current_build_id != environment.current_build_id:
            answer = await self._ask(record.environment)
        verdict = phase.judge(record.environment, answer, self._driver.trouble(environment.id))
        routes = [route for artifact in answer.build.artifacts for route in artifact.routes] if answer.build else []
        return reply(
            EnvironmentStatus(
                environment_id=environment.id,
                phase=verdict.phase,
                stuck_at=verdict.stuck_at or UNSET,
                build=answer.build or UNSET,
                operator=answer.operator or UNSET,
                routes=sorted(routes, key=lambda route: route.path),
            )
        )

    async def _ask(self, environment: Environment) -> phase.Answer:
        async def build() -> tuple[Build | None, str]:
            if not environment.current_build_id:
                return None, ""
            try:
                path = f"/v1/builds/{escape(environment.current_build_id)}"
                answer = await self._builder.get(path, timeout_s=_ASK_S)
                return (answer.decode(Build), "") if answer.status == 200 else (None, answer.message)  # noqa: PLR2004
            except ApiError as error:
                return None, str(error)

        async def operator() -> tuple[GraphStatus | None, str]:
            try:
                answer = await self._operator.get(f"/v1/status/{escape(environment.id)}", timeout_s=_ASK_S)
                if answer.status == 404:  # noqa: PLR2004
                    return None, ""
                return (answer.decode(GraphStatus), "") if answer.status == 200 else (None, answer.message)  # noqa: PLR2004
            except ApiError as error:
                return None, str(error)

        (built, build_error), (operated, operator_error) = await asyncio.gather(build(), operator())
        return phase.Answer(built, build_error, operated, operator_error)

    async def _rebuild(self, environment_id: str, version: str, overrides: list[Override]) -> Response:
        environment = self._live(environment_id).environment
        components = await self._components(environment.base_root_package, version, overrides)
        record = self._live(environment_id)
        self._store.claim(environment_id, components)
        changed = replace(record.environment, status="building", message=UNSET, overrides=overrides, updated_at=now())
        self._store.save(replace(record, environment=changed, wanted=_wanted(version), root_version=version))
        return reply(await self._begin(environment_id), 202)

    async def _begin(self, environment_id: str) -> Environment:
        self._driver.kick(environment_id)
        await self._driver.submitted(environment_id, SUBMIT_WAIT_S)
        return self._find(environment_id).environment

    async def _components(self, root: str, version: str, overrides: list[Override]) -> list[str]:
        """The names of all packages that will run, by registry."""
        path = f"/v1/packages/{escape(root)}/versions/{escape(version)}/dependencies"
        params = [("override", f"{o.package_name}@{o.version}") for o in overrides]
        answer = await self._registry.get(path, params)
        if answer.status == 200:  # noqa: PLR2004
            return [package.name for package in answer.decode(Closure).packages]
        if answer.status == 400:  # noqa: PLR2004
            raise BadRequest(answer.message)
        if answer.status in (404, 422):
            raise Unprocessable(answer.message)
        raise Unavailable(f"registry: {answer.status} {answer.message}")

    def _find(self, environment_id: str) -> Record:
        record = self._store.get(environment_id)
        if record is None:
            raise NotFound(f"there is no environment {environment_id!r}")
        return record

    def _live(self, environment_id: str) -> Record:
        record = self._find(environment_id)
        if record.environment.status == "deleting":
            raise Conflict(f"environment {environment_id} is being deleted")
        return record


def _wanted(version: str) -> Wanted:
    return Wanted(key=uuid.uuid4().hex, root_version=version, traceparent=telemetry.current_traceparent())


def operations(manager: EnvManager) -> list[Operation]:
    """What envmanager promises."""
    one = "/v1/environments/{id}"
    body = {400: ErrorBody, 413: ErrorBody, 415: ErrorBody}
    change = {202: Environment, **body, 404: ErrorBody, 409: ErrorBody, 422: ErrorBody, 503: ErrorBody}
    return [
        Operation(
            "POST", "/v1/environments", "Create an environment", manager.create_environment,
            {201: Environment, **body, 409: ErrorBody, 422: ErrorBody, 503: ErrorBody}, body=CreateRequest,
        ),
        Operation(
            "GET", "/v1/environments", "List environments", manager.list_environments,
            {200: EnvironmentList, 400: ErrorBody}, query=ListQuery,
        ),
        Operation("GET", one, "An environment", manager.get_environment, {200: Environment, 404: ErrorBody}),
        Operation(
            "DELETE", one, "Delete an environment and all that runs for it", manager.delete_environment,
            {202: Environment, 404: ErrorBody},
        ),
        Operation(
            "GET", f"{one}/status", "Is it up, and if not, where does it hang", manager.get_status,
            {200: EnvironmentStatus, 404: ErrorBody},
        ),
        Operation(
            "POST", f"{one}/builds", "Build with the newest matching versions", manager.create_build,
            change, body=RebuildRequest,
        ),
        Operation(
            "POST", f"{one}/overrides", "Replace the overrides and build", manager.set_overrides,
            change, body=OverridesRequest,
        ),
        Operation(
            "POST", f"{one}/promote", "Make the versions that are built the environment's own", manager.promote,
            {200: Environment, **body, 404: ErrorBody, 409: ErrorBody, 503: ErrorBody}, body=PromoteRequest,
        ),
    ]  # fmt: skip


def build(settings: EnvManagerSettings) -> ASGIApp:
    """The service."""
    store = EnvironmentStore(open_database(settings.data_dir, "envmanager", metadata))
    registry = Peer("registry", settings.registry_url)
    builder = Peer("builder", settings.builder_url)
    operator = Peer("operator", settings.operator_url)
    changes = Changes()
    driver = Driver(store, builder, operator, changes, settings.recheck_s)
    manager = EnvManager(store, driver, changes, registry=registry, builder=builder, operator=operator)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with driver.running():
            yield
        for peer in (registry, builder, operator):
            await peer.close()

    return make_application(
        "envmanager",
        operations(manager),
        checks={peer.name: peer.check for peer in (registry, builder, operator)},
        lifespan=lifespan,
        changes=changes,
    )
