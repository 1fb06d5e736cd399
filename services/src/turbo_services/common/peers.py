"""HTTP to others: the one module that imports httpx.

Every call carries the trace context of the caller. A peer that cannot be reached is `PeerUnavailable`; an answer of
any status is a `Reply`. `Upstream` passes requests on as they are.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport

from turbo_services.common.errors import ErrorBody, Unavailable

CONNECT_S: Final = 5.0
T = TypeVar("T")


class PeerUnavailable(Unavailable):
    """A peer did not answer; the message names it, its URL and why."""


class UpstreamError(Exception):
    """An upstream cannot be reached, or broke off; the message says why."""


class UpstreamTimeoutError(UpstreamError):
    """An upstream took too long."""


class Reply(msgspec.Struct, frozen=True):
    """What a peer answered."""

    peer: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """The body as ``kind``; keys it does not know are ignored.

        Raises:
            PeerUnavailable: the body is something else.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.DecodeError as error:
            raise PeerUnavailable(f"{self.peer} answered {self.status} with an unexpected body: {error}") from error

    @property
    def message(self) -> str:
        """The message of an error body, else the start of the body."""
        try:
            return msgspec.json.decode(self.body, type=ErrorBody).error.message
        except msgspec.DecodeError:
            return self.body[:200].decode("utf-8", "replace") or f"status {self.status}"


@cache
def _tls() -> ssl.SSLContext:
    """One for all: making it reads every certificate authority there is."""
    return httpx.create_ssl_context(trust_env=False)


def transport(*, connections: int = 100) -> httpx.AsyncBaseTransport:
    """A traced connection pool without proxies, cookies or redirects."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=20, keepalive_expiry=4)
    return AsyncOpenTelemetryTransport(httpx.AsyncHTTPTransport(verify=_tls(), limits=limits, trust_env=False))


def escape(segment: str) -> str:
    """``segment`` as one segment of a path: ``@acme/users`` -> ``%40acme%2Fusers``."""
    return quote(segment, safe="")


class Peer:
    """Another service, by its base URL."""

    def __init__(self, name: str, url: str, *, timeout_s: float = 5.0) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(transport=transport(), timeout=timeout_s, trust_env=False)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Reply:
        """Send a request; ``json`` is anything msgspec encodes.

        Raises:
            PeerUnavailable: no answer in ``timeout_s``.
        """
        sent = dict(headers or {})
        content = None
        if json is not None:
            content = msgspec.json.encode(json)
            sent["content-type"] = "application/json"
        try:
            answer = await self._client.request(
                method,
                self.url + path,
                content=content,
                params=httpx.QueryParams(list(params)) if params else None,
                headers=sent,
                timeout=self._timeout_s if timeout_s is None else timeout_s,
            )
        except httpx.HTTPError as error:
            raise PeerUnavailable(f"{self.name} at {self.url} does not answer: {_reason(error)}") from error
        return Reply(self.name, answer.status_code, dict(answer.headers), answer.content)

    async def get(self, path: str, params: list[tuple[str, str]] | None = None, **more: Any) -> Reply:
        """``request("GET", ...)``."""
        return await self.request("GET", path, params=params, **more)

    async def stream(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body of a GET as it arrives, without a read deadline.

        Raises:
            PeerUnavailable: no answer, one that is not 200, or a connection that broke.
        """
        try:
            timeout = httpx.Timeout(self._timeout_s, read=None)
            async with self._client.stream("GET", self.url + path, headers=headers, timeout=timeout) as answer:
                if answer.status_code != httpx.codes.OK:
                    body = await answer.aread()
                    raise PeerUnavailable(Reply(self.name, answer.status_code, {}, body).message)
                async for chunk in answer.aiter_raw():
                    yield chunk
        except httpx.HTTPError as error:
            raise PeerUnavailable(f"{self.name} at {self.url} does not answer: {_reason(error)}") from error

    async def check(self) -> None:
        """Ask the peer's ``/healthz``, for a readiness probe.

        Raises:
            PeerUnavailable: it is away or unwell.
        """
        reply = await self.get("/healthz", timeout_s=1.0)
        if reply.status != httpx.codes.OK:
            raise PeerUnavailable(f"{self.name} at {self.url} is not healthy: {reply.status} {reply.message}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class UpstreamAnswer:
    """The head of an upstream's answer, and its body as it arrives."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: list[tuple[bytes, bytes]] = list(response.headers.raw)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, still encoded as the headers say.

        Raises:
            UpstreamError: it broke off.
        """
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise UpstreamError(_reason(error)) from error
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the connection back, read to the end or not; again changes nothing."""
        await self._response.aclose()


class Upstream:
    """Raw requests: streamed both ways, no cookies kept, no redirects followed, nothing decoded."""

    def __init__(self) -> None:
        self._transport = transport(connections=500)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[bytes, bytes]],
        body: AsyncIterator[bytes] | None,
        timeout_s: float,
    ) -> UpstreamAnswer:
        """Send a request; ``timeout_s`` counts to the head of the answer, and between two pieces of its body.

        Raises:
            UpstreamTimeoutError: no head in time.
            UpstreamError: no connection, or a broken one.
        """
        times = {"connect": min(CONNECT_S, timeout_s), "read": timeout_s, "write": timeout_s, "pool": timeout_s}
        try:
            request = httpx.Request(method, url, headers=list(headers), content=body, extensions={"timeout": times})
            async with asyncio.timeout(timeout_s):
                return UpstreamAnswer(await self._transport.handle_async_request(request))
        except (TimeoutError, httpx.TimeoutException) as error:
            raise UpstreamTimeoutError(f"no answer in {timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(_reason(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
