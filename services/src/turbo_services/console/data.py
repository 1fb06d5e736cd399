"""What the pages show, read from the services: each part is there, or the reason why it is not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from turbo_services.common.errors import ApiError
from turbo_services.common.peers import Peer, Reply, escape
from turbo_services.common.wire import Build, Environment, EnvironmentStatus, Package

T = TypeVar("T")
PAGE_SIZE = "200"


class Part(msgspec.Struct, Generic[T], frozen=True):
    """A part of a page: its value, or why there is none."""

    value: T | None = None
    error: str = ""
    missing: bool = False
    """The service answers, but there is no such thing."""


class _Packages(msgspec.Struct, frozen=True):
    packages: list[Package]


class _Environments(msgspec.Struct, frozen=True):
    environments: list[Environment]


class _Builds(msgspec.Struct, frozen=True):
    builds: list[Build]


async def _part(ask: Awaitable[Reply], read: Callable[[Reply], T]) -> Part[T]:
    try:
        answer = await ask
        if answer.status == 404:  # noqa: PLR2004
            return Part(error=answer.message, missing=True)
        if answer.status >= 400:  # noqa: PLR2004
            return Part(error=f"{answer.peer} answered {answer.status}: {answer.message}")
        return Part(value=read(answer))
    except ApiError as error:
        return Part(error=str(error))


class Platform:
    """The services behind the console."""

    def __init__(self, *, registry: Peer, builder: Peer, envmanager: Peer, operator: Peer) -> None:
        self.registry = registry
        self.builder = builder
        self.envmanager = envmanager
        self.operator = operator
        self.peers = (registry, builder, envmanager, operator)

    async def packages(self, name: str | None = None) -> Part[list[Package]]:
        """Package versions by name; of one package only, the newest first."""
        params = [("page_size", PAGE_SIZE), *([("name_prefix", name)] if name else [])]
        found = await _part(self.registry.get("/v1/packages", params), lambda r: r.decode(_Packages).packages)
        if name is None or found.value is None:
            return found
        own = [package for package in reversed(found.value) if package.name == name]
        return Part(value=own) if own else Part(error=f"package {name!r} is not published", missing=True)

    async def environments(self) -> Part[list[Environment]]:
        """All environments."""
        ask = self.envmanager.get("/v1/environments", [("page_size", PAGE_SIZE)])
        return await _part(ask, lambda r: r.decode(_Environments).environments)

    async def environment(self, environment_id: str) -> tuple[Part[Environment], Part[EnvironmentStatus]]:
        """An environment and how it is."""
        path = f"/v1/environments/{escape(environment_id)}"
        return await asyncio.gather(
            _part(self.envmanager.get(path), lambda r: r.decode(Environment)), self.status(environment_id)
        )

    async def status(self, environment_id: str) -> Part[EnvironmentStatus]:
        """How an environment is."""
        path = f"/v1/environments/{escape(environment_id)}/status"
        return await _part(self.envmanager.get(path), lambda r: r.decode(EnvironmentStatus))

    async def builds(self, environment_id: str | None = None) -> Part[list[Build]]:
        """Builds, newest first."""
        params = [("page_size", PAGE_SIZE), *([("environment_id", environment_id)] if environment_id else [])]
        return await _part(self.builder.get("/v1/builds", params), lambda r: r.decode(_Builds).builds)

    async def build(self, build_id: str) -> Part[Build]:
        """A build."""
        return await _part(self.builder.get(f"/v1/builds/{escape(build_id)}"), lambda r: r.decode(Build))

    async def health(self) -> dict[str, str]:
        """Each service: ``ok``, or why not."""

        async def one(peer: Peer) -> str:
            try:
                await peer.check()
            except ApiError as error:
                return str(error)
            return "ok"

        states = await asyncio.gather(*(one(peer) for peer in self.peers))
        return {peer.name: state for peer, state in zip(self.peers, states, strict=True)}

    async def act(self, method: str, environment_id: str, action: str, body: Any = None) -> str:
        """Do something to an environment; the reason why it was refused, empty when it was not."""
        path = f"/v1/environments/{escape(environment_id)}{action}"
        try:
            answer = await self.envmanager.request(method, path, json=body)
        except ApiError as error:
            return str(error)
        return "" if answer.status < 400 else answer.message  # noqa: PLR2004

    async def close(self) -> None:
        """Close the connections."""
        for peer in self.peers:
            await peer.close()
