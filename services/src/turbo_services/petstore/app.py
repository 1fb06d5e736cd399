"""petstore's HTTP API."""

from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from turbo_services.common import telemetry
from turbo_services.common.application import make_application
from turbo_services.common.errors import ErrorBody, NotFound
from turbo_services.common.operations import Call, Operation, reply
from turbo_services.common.settings import Settings


class PetstoreSettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """petstore's settings."""


class Pet(msgspec.Struct, frozen=True):
    """A pet."""

    id: int
    name: str
    kind: str


class PetList(msgspec.Struct, frozen=True):
    """All pets."""

    pets: list[Pet]


PETS: Final = (
    Pet(id=1, name="Ada", kind="cat"),
    Pet(id=2, name="Brutus", kind="dog"),
    Pet(id=3, name="Clover", kind="rabbit"),
)


async def list_pets(_call: Call) -> Response:
    """``GET /pets``."""
    with telemetry.tracer.start_as_current_span("look up pets") as span:
        span.set_attribute("pets.count", len(PETS))
        return reply(PetList(pets=list(PETS)))


async def get_pet(call: Call) -> Response:
    """``GET /pets/{id}``."""
    wanted = call.path("id")
    with telemetry.tracer.start_as_current_span("look up pet") as span:
        span.set_attribute("pet.id", wanted)
        pet = next((pet for pet in PETS if str(pet.id) == wanted), None)
    if pet is None:
        raise NotFound(f"there is no pet {wanted!r}")
    return reply(pet)


OPERATIONS: Final = (
    Operation("GET", "/pets", "All pets", list_pets, {200: PetList}),
    Operation("GET", "/pets/{id}", "A pet", get_pet, {200: Pet, 404: ErrorBody}),
)


def build(_settings: PetstoreSettings) -> ASGIApp:
    """The service."""
    return make_application("petstore", OPERATIONS)
