"""The one way by which APIGraphs are written: for the builder's sync and for the HTTP API."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from turbo_operator.actions import ActionLog
from turbo_operator.applier import Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.plan import Action, Verb
from turbo_operator.graphs import GraphChange, GraphWriteError, GraphWriter, Spec, change_to, take
from turbo_operator.store import Store

_MOST_UNREAD = 1000
"""So many writes of unknown outcome are remembered, the newest: of others the log keeps saying `unknown`."""


class GraphWrites:
    """Writes APIGraphs: every request that is sent ends as an action, and none is sent after `stop`. Thread-safe."""

    def __init__(self, store: Store, writer: GraphWriter, actions: ActionLog) -> None:
        self._store = store
        self._writer = writer
        self._actions = actions
        self._condition = threading.Condition()
        self._underway = 0
        self._stopped = False
        self._unread: dict[str, tuple[str, GraphChange]] = {}

    # -- life ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin no further write."""
        with self._condition:
            self._stopped = True

    def drain(self, timeout_s: float) -> bool:
        """Wait for the writes that have begun; False if some are not done in time."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._underway, timeout_s)

    @contextmanager
    def underway(self) -> Iterator[None]:
        """What is done inside is waited for by `drain`.

        Raises:
            GraphWriteError: the operator stops, nothing may begin any more.
        """
        with self._condition:
            if self._stopped:
                raise GraphWriteError(503, "stopping", "the operator stops and writes nothing any more")
            self._underway += 1
        try:
            yield
        finally:
            with self._condition:
                self._underway -= 1
                self._condition.notify_all()

    # -- writes -------------------------------------------------------------------------------------------------

    def upsert(
        self,
        spec: Spec,
        *,
        source: str,
        reason: str,
        traceparent: str | None = None,
        builder_store: str | None = None,
    ) -> tuple[Verb | None, Object]:
        """Make the APIGraph of `spec` say `spec`; gives what was done, None for nothing, and the APIGraph.

        The cache of APIGraphs has it when this returns. Arguments are those of `change_to`.

        Raises:
            GraphWriteError: it was not written, or nobody knows.
        """
        environment_id = str(spec.get("environmentId"))
        name = names.graph_name(environment_id)
        with self.underway():
            self._read_back(name)
            change = change_to(spec, self._store, source=source, traceparent=traceparent, builder_store=builder_store)
            if change is None:
                present = self._store.get(name)
                assert present is not None
                return None, present
            made = self._write(environment_id, change, reason)
            assert made is not None
            return change.verb, made

    def remove(self, obj: Object, environment_id: str, reason: str) -> None:
        """Delete exactly this APIGraph; its children go by garbage collection.

        Raises:
            GraphWriteError: it was not deleted, or nobody knows.
        """
        with self.underway():
            self._read_back(obj["metadata"]["name"])
            self._write(environment_id, GraphChange("Delete", obj), reason)

    def _write(self, environment_id: str, change: GraphChange, reason: str) -> Object | None:
        started = time.perf_counter()
        result = self._writer.write(change)
        duration_s = time.perf_counter() - started
        # Logged before anybody can see its effect in a status.
        self._record(environment_id, change, reason, result, duration_s)
        with self._condition:
            if result.sent:
                self._unread.pop(change.name, None)  # a later write: what became of the earlier one is past
            if result.outcome == "unknown":
                self._unread[change.name] = environment_id, change
                if len(self._unread) > _MOST_UNREAD:
                    del self._unread[next(iter(self._unread))]
        take(self._store, change, result)
        if result.outcome == "unknown":
            self.observe(change.name, self._store.get(change.name))  # the watch may have been faster
        if result.outcome != "ok":
            raise GraphWriteError.of(change, result)
        return result.obj

    def _record(
        self, environment_id: str, change: GraphChange, reason: str, result: Result, duration_s: float = 0.0
    ) -> None:
        self._actions.record(
            environment_id,
            Action(change.verb, names.GRAPH_KIND, change.name, "", reason),
            result.outcome,
            http_status=result.http_status,
            message=result.message,
            duration_s=duration_s,
        )

    # -- unknown outcomes ---------------------------------------------------------------------------------------

    def _read_back(self, name: str) -> None:
        """Learn what became of an earlier write before the next one of the same APIGraph is decided."""
        unread = self._unread.get(name)
        if unread is None:
            return
        result = self._writer.read(unread[1])
        if result.outcome != "unknown":
            self._tell(name, unread, result)
            take(self._store, unread[1], result)

    def observe(self, name: str, obj: Object | None) -> None:
        """An APIGraph is now `obj`, or gone: that may be a write whose answer was lost."""
        unread = self._unread.get(name)
        if unread is not None and unread[1].landed(obj):
            self._tell(name, unread, Result("ok"))

    def _tell(self, name: str, unread: tuple[str, GraphChange], result: Result) -> None:
        with self._condition:
            if self._unread.get(name) is not unread:
                return  # somebody else has told
            del self._unread[name]
        end = "it landed" if result.outcome == "ok" else "it did not land"
        self._record(*unread, f"outcome was unknown; {end}", replace(result, message=""))
