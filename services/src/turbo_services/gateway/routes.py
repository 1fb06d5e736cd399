"""The routing table; pure."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import unquote

import msgspec
from msgspec import Meta


class GatewayRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Requests under a path prefix go to an upstream."""

    path_prefix: Annotated[str, Meta(pattern="^/")]
    upstream_url: Annotated[str, Meta(pattern="^https?://[^/?#]+")]
    strip_prefix: bool = True
    headers: dict[str, str] = {}
    timeout_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 30000


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """The routes in order of age of their environment, the oldest first."""

    routes: list[GatewayRoute] = []


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What CONFIG_URL answers; keys unknown here are ignored, as a newer operator may send more."""

    routing: Routing
    poll_interval_secs: Annotated[float, Meta(gt=0)] = 5.0


class ConfigError(Exception):
    """A configuration that cannot be used; the message says what is wrong."""


def parse(document: bytes) -> GatewayConfig:
    """Read a configuration.

    Raises:
        ConfigError: it is not JSON or does not fit.
    """
    try:
        return msgspec.json.decode(document, type=GatewayConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a gateway configuration: {error}") from error


class Table:
    """Routes by prefix."""

    def __init__(self, routes: Sequence[GatewayRoute] = ()) -> None:
        self._by_prefix: dict[tuple[str, ...], GatewayRoute] = {}
        self.shadowed: list[GatewayRoute] = []
        """Routes whose prefix an earlier one, that of an older environment, has already."""
        for route in routes:
            if self._by_prefix.setdefault(_segments(route.path_prefix), route) is not route:
                self.shadowed.append(route)
        self._longest = max(map(len, self._by_prefix), default=0)

    @property
    def routes(self) -> list[GatewayRoute]:
        """The routes in force, sorted by prefix."""
        return [self._by_prefix[key] for key in sorted(self._by_prefix)]

    def match(self, path: str) -> tuple[GatewayRoute, str] | None:
        """The route of a path (percent-encoded, as it came) and the path to ask the upstream for.

        The longest prefix wins; prefixes match whole segments.
        """
        raw = path.split("/")[1:]
        decoded = [unquote(segment) for segment in raw]
        for length in range(min(self._longest, len(raw)), -1, -1):
            route = self._by_prefix.get(tuple(decoded[:length]))
            if route is not None:
                rest = "/" + "/".join(raw[length:]) if route.strip_prefix else path
                return route, rest
        return None


def is_safe(path: str) -> bool:
    """Whether no segment of a path, decoded, walks upwards: an upstream could leave its prefix that way."""
    return not any(part in (".", "..") for s in path.split("/") for part in unquote(s).replace("\\", "/").split("/"))


def _segments(prefix: str) -> tuple[str, ...]:
    return tuple(unquote(segment) for segment in prefix.strip("/").split("/")) if prefix.strip("/") else ()
