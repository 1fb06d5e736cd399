"""What is done for an environment in the background: its builds, its deletion.

All that is to be done stands in the database and every hop can be repeated, so a hop that failed, was cancelled or was
cut by ``kill -9`` is simply done again. One task an environment.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from turbo_services.common import telemetry
from turbo_services.common.changes import Changes
from turbo_services.common.clock import now
from turbo_services.common.errors import ApiError
from turbo_services.common.peers import Peer, Reply, escape
from turbo_services.common.wire import Build, BuildRequest, Environment
from turbo_services.envmanager.store import EnvironmentStore, Record, Wanted

HOLD_S: Final = 20
"""Builder holds an unchanged build this long."""
GONE_LOOKS: Final = 2
GONE_POLL_S: Final = 0.4
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_GONE: Final = 404

log = logging.getLogger(__name__)


class HopError(ApiError):
    """A hop did not succeed and will be tried again; the message says which and why."""


class _Newest(msgspec.Struct, frozen=True):
    builds: list[Build]


class Driver:
    """The tasks of all environments."""

    def __init__(
        self, store: EnvironmentStore, builder: Peer, operator: Peer, changes: Changes, recheck_s: float
    ) -> None:
        self._store = store
        self._builder = builder
        self._operator = operator
        self._changes = changes
        self._recheck_s = recheck_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trouble: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take every environment up where it was left."""
        for environment_id in self._store.ids():
            self.kick(environment_id)
        try:
            yield
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def kick(self, environment_id: str) -> None:
        """Begin anew with an environment, because its record changed."""
        task = self._tasks.pop(environment_id, None)
        if task is not None:
            task.cancel()
        self._trouble.pop(environment_id, None)
        self._tasks[environment_id] = asyncio.create_task(
            self._drive(environment_id), name=environment_id, context=contextvars.Context()
        )

    def trouble(self, environment_id: str) -> str:
        """Why the last hop for an environment did not succeed; empty when it did."""
        return self._trouble.get(environment_id, "")

    async def submitted(self, environment_id: str, timeout_s: float) -> None:
        """Wait until builder has taken the wanted build, or until ``timeout_s`` passed."""
        deadline = time.monotonic() + timeout_s
        while True:
            mark = self._changes.mark()
            record = self._store.get(environment_id)
            left_s = deadline - time.monotonic()
            if record is None or record.wanted is None or left_s <= 0 or not await self._changes.wait(mark, left_s):
                return

    async def _drive(self, environment_id: str) -> None:
        failures = 0
        while (record := self._store.get(environment_id)) is not None:
            try:
                pause_s = await self._hop(record)
                failures = 0
                self._trouble.pop(environment_id, None)
            except ApiError as error:
                pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                self._note(environment_id, str(error))
            except Exception as error:
                pause_s = _BACKOFF_S[-1]
                log.exception("hop broke", extra={"environment_id": environment_id})
                self._note(environment_id, f"envmanager itself failed: {type(error).__name__}: {error}")
            await asyncio.sleep(pause_s)
        self._tasks.pop(environment_id, None)
        self._trouble.pop(environment_id, None)

    def _note(self, environment_id: str, trouble: str) -> None:
        if self._trouble.get(environment_id) != trouble:
            log.warning("hop failed", extra={"environment_id": environment_id, "error": trouble})
        self._trouble[environment_id] = trouble

    async def _hop(self, record: Record) -> float:
        """Do what is next; the seconds to rest after it."""
        if record.environment.status == "deleting":
            return await self._delete(record)
        if record.wanted is not None:
            return await self._submit(record)
        return await self._follow(record)

    async def _submit(self, record: Record) -> float:
        wanted, environment = record.wanted, record.environment
        assert wanted is not None
        request = BuildRequest(
            environment_id=environment.id,
            root_package_name=environment.base_root_package,
            root_package_version=wanted.root_version,
            overrides=environment.overrides,
            ingress_host=environment.ingress_host,
        )
        with telemetry.continued(wanted.traceparent, "ask for build"):
            answer = await self._builder.request(
                "POST", "/v1/builds", json=request, headers={"idempotency-key": wanted.key}
            )
        if answer.status != 202:  # noqa: PLR2004
            raise HopError(f"builder refused the build: {answer.status} {answer.message}")
        build = answer.decode(Build)
        self._save(
            record, replace(environment, status="building", current_build_id=build.id, message=UNSET), wanted=None
        )
        log.info("build asked for", extra={"environment_id": environment.id, "build_id": build.id})
        return 0

    async def _follow(self, record: Record) -> float:
        """Wait for the build to end; later, look whether builder still stands by it."""
        environment = record.environment
        build_id = environment.current_build_id
        if not build_id:
            raise HopError("no build has been asked for")
        if environment.status in ("ready", "failed"):
            await asyncio.sleep(self._recheck_s)
            await self._recheck(record, build_id)
            return 0
        etag = ""
        while True:
            answer = await self._look(build_id, etag)
            if answer.status == _GONE:
                self._again(record)
                return 0
            if answer.status == 304:  # noqa: PLR2004
                continue
            if answer.status != 200:  # noqa: PLR2004
                raise HopError(f"builder: {answer.status} {answer.message}")
            etag = answer.headers.get("etag", "")
            build = answer.decode(Build)
            if build.status == "succeeded":
                self._store.keep_only(environment.id, [artifact.package_name for artifact in build.artifacts])
                self._save(record, replace(environment, status="ready"))
                return 0
            if build.status == "failed":
                message = build.error_message or "the build failed"
                self._save(record, replace(environment, status="failed", message=message))
                return 0

    async def _recheck(self, record: Record, build_id: str) -> None:
        """Ask for the build again when the environment's newest one is another: lost with builder's data, or stale."""
        params = [("environment_id", record.environment.id), ("page_size", "1")]
        with telemetry.untraced():
            answer = await self._builder.get("/v1/builds", params)
        if answer.status != 200:  # noqa: PLR2004
            raise HopError(f"builder: {answer.status} {answer.message}")
        if [build.id for build in answer.decode(_Newest).builds] != [build_id]:
            self._again(record)

    async def _look(self, build_id: str, etag: str) -> Reply:
        headers = {"if-none-match": etag, "prefer": f"wait={HOLD_S}"} if etag else {}
        with telemetry.untraced():
            return await self._builder.get(f"/v1/builds/{escape(build_id)}", headers=headers, timeout_s=HOLD_S + 5)

    def _again(self, record: Record) -> None:
        """Ask for the build anew, as it was asked for."""
        environment = record.environment
        log.warning(
            "builder no longer has the build, or has a newer one",
            extra={"environment_id": environment.id, "build": environment.current_build_id},
        )
        key = f"{environment.id}-again-{time.time_ns()}"
        version = record.root_version or environment.base_root_version or "latest"
        self._save(record, environment, wanted=Wanted(key=key, root_version=version, traceparent=""))

    async def _delete(self, record: Record) -> float:
        environment_id = record.environment.id
        if not record.graph_deleted:
            with telemetry.continued(record.traceparent, "delete graph"):
                answer = await self._builder.request("DELETE", f"/v1/graphs/{escape(environment_id)}")
            if answer.status not in (204, 404):
                raise HopError(f"builder: {answer.status} {answer.message}")
            record = replace(record, graph_deleted=True)
            self._store.save(record)
        # Gone means gone twice: between builder's answer and the operator's next poll it may just not be known yet.
        for look in range(GONE_LOOKS):
            if look:
                await asyncio.sleep(GONE_POLL_S)
            with telemetry.untraced():
                answer = await self._operator.get(f"/v1/status/{escape(environment_id)}")
            if answer.status != _GONE:
                if answer.status != 200:  # noqa: PLR2004
                    raise HopError(f"operator: {answer.status} {answer.message}")
                return GONE_POLL_S
        self._store.remove(environment_id)
        self._changes.notify()
        log.info("environment is gone", extra={"environment_id": environment_id})
        return 0

    def _save(self, record: Record, environment: Environment, **changes: object) -> None:
        environment = replace(environment, updated_at=now())
        self._store.save(replace(record, environment=environment, **changes))
        self._changes.notify()
