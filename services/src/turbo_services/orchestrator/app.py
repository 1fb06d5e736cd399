"""orchestrator's HTTP API: remote procedures that petstore answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from turbo_services.common.application import make_application
from turbo_services.common.errors import ErrorBody, NotFound, Unavailable
from turbo_services.common.operations import Call, Operation
from turbo_services.common.peers import Peer, escape
from turbo_services.common.settings import Settings, Url


class OrchestratorSettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """orchestrator's settings."""

    upstream_url: Url = "http://svc-petstore:8080"
    """petstore."""


class RpcPet(msgspec.Struct, frozen=True):
    """A pet, as petstore tells it."""

    id: int
    name: str
    kind: str


class RpcPetList(msgspec.Struct, frozen=True):
    """All pets, as petstore tells them."""

    pets: list[RpcPet]


class GetPetQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which pet."""

    id: str


class Orchestrator:
    """The handlers."""

    def __init__(self, petstore: Peer) -> None:
        self._petstore = petstore

    async def list_pets(self, _call: Call) -> Response:
        """``GET /rpc/listPets``."""
        return await self._ask("/pets")

    async def get_pet(self, call: Call) -> Response:
        """``GET /rpc/getPet?id=``."""
        return await self._ask(f"/pets/{escape(call.query_as(GetPetQuery).id)}")

    async def _ask(self, path: str) -> Response:
        answer = await self._petstore.get(path)
        if answer.status == 404:  # noqa: PLR2004
            raise NotFound(answer.message)
        if answer.status != 200:  # noqa: PLR2004
            raise Unavailable(f"petstore answered {answer.status}: {answer.message}")
        return Response(answer.body, media_type="application/json")


def build(settings: OrchestratorSettings) -> ASGIApp:
    """The service."""
    petstore = Peer("petstore", settings.upstream_url)
    orchestrator = Orchestrator(petstore)
    away = {503: ErrorBody}

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await petstore.close()

    return make_application(
        "orchestrator",
        [
            Operation("GET", "/rpc/listPets", "All pets", orchestrator.list_pets, {200: RpcPetList, **away}),
            Operation(
                "GET",
                "/rpc/getPet",
                "A pet",
                orchestrator.get_pet,
                {200: RpcPet, 400: ErrorBody, 404: ErrorBody, **away},
                query=GetPetQuery,
            ),
        ],
        checks={"petstore": petstore.check},
        lifespan=lifespan,
    )
