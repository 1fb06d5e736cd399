"""Where the routing table comes from: a URL that is long-polled, a file that is watched, or nothing."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge

from turbo_services.common import telemetry
from turbo_services.common.errors import ApiError, Unavailable
from turbo_services.common.peers import Peer
from turbo_services.common.settings import SettingsError
from turbo_services.gateway.routes import ConfigError, GatewayConfig, Table, parse

HOLD_S: Final = 30
"""The source is asked to hold an unchanged answer this long."""
FILE_POLL_S: Final = 0.5
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_NOT_HELD_S: Final = 1.0

log = logging.getLogger(__name__)


class Source:
    """Keeps `table` current; a load that fails keeps the last good one."""

    def __init__(self, url: str | None, registry: CollectorRegistry) -> None:
        self.url = url
        self.table = Table()
        self.loaded_at: float | None = None
        """Monotonic time of the last good load."""
        self.error = ""
        """Why the last load failed; empty when it did not."""
        self._loads = Counter("gateway_config_loads_total", "Loads of the table.", ("outcome",), registry=registry)
        self._routes = Gauge("gateway_routes", "Routes in force.", registry=registry)
        parts = urlsplit(url or "")
        if url and parts.scheme not in ("http", "https", "file"):
            raise SettingsError(f"environment variable CONFIG_URL={url!r}: expected an http, https or file URL")
        self._file = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._peer = Peer("config source", f"{parts.scheme}://{parts.netloc}") if parts.netloc and url else None

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Load at once, then follow every change."""
        task = asyncio.create_task(self._follow()) if self.url else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            if self._peer is not None:
                await self._peer.close()

    async def check(self) -> None:
        """Ready once a table was loaded; a later failure keeps the last good one in force.

        Raises:
            Unavailable: nothing has been loaded yet.
        """
        if self.url and self.loaded_at is None:
            raise Unavailable(self.error or f"no answer from {self.url} yet")

    async def _follow(self) -> None:
        failures, etag = 0, ""
        while True:
            try:
                started = time.monotonic()
                pause_s, etag = await (self._read() if self._file else self._poll(etag))
                if failures and self.error:
                    log.info("configuration is read again", extra={"source": self.url})
                failures, self.error = 0, ""
                # A source that does not hold its answers is asked at its own interval.
                pause_s = 0.0 if time.monotonic() - started > _NOT_HELD_S else pause_s
            except (ApiError, ConfigError, OSError) as error:
                pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                self._fail(str(error))
            except Exception as error:
                pause_s = _BACKOFF_S[-1]
                log.exception("configuration load broke")
                self._fail(f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause_s)

    def _fail(self, error: str) -> None:
        self._loads.labels("failed").inc()
        if error != self.error:
            log.warning("configuration cannot be loaded; the last good one stays", extra={"error": error})
        self.error = error

    async def _poll(self, etag: str) -> tuple[float, str]:
        assert self._peer is not None
        headers = {"prefer": f"wait={HOLD_S}"} | ({"if-none-match": etag} if etag else {})
        with telemetry.untraced():
            answer = await self._peer.get(self._path, headers=headers, timeout_s=HOLD_S + 10)
        if answer.status == 304:  # noqa: PLR2004
            self.loaded_at = time.monotonic()
            return self._interval_s, etag
        if answer.status != 200:  # noqa: PLR2004
            raise Unavailable(f"{self.url} answered {answer.status}: {answer.message}")
        config = parse(answer.body)
        self._use(config)
        # Ask again at once where the answer has a tag to wait on.
        tag = answer.headers.get("etag", "")
        return (0.05 if tag else self._interval_s), tag

    async def _read(self) -> tuple[float, str]:
        assert self._file is not None
        self._use(parse(self._file.read_bytes()))
        return FILE_POLL_S, ""

    _interval_s = 5.0

    def _use(self, config: GatewayConfig) -> None:
        table = Table(config.routing.routes)
        self._interval_s = config.poll_interval_secs
        first = self.loaded_at is None
        self.loaded_at = time.monotonic()
        if not first and table.routes == self.table.routes and table.shadowed == self.table.shadowed:
            return
        self.table = table
        self._loads.labels("loaded").inc()
        self._routes.set(len(table.routes))
        log.info("routes loaded", extra={"routes": [f"{r.path_prefix} -> {r.upstream_url}" for r in table.routes]})
        for route in table.shadowed:
            log.warning(
                "route not used: an older environment has its prefix",
                extra={"path_prefix": route.path_prefix, "upstream_url": route.upstream_url},
            )
