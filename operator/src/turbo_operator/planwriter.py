"""Carries out what is due of a plan: writes in order, in turn with other graphs, and takes in what came of it."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any

from opentelemetry import trace

from turbo_operator import metrics
from turbo_operator.actions import ActionLog, Record
from turbo_operator.announcements import Tell, announce
from turbo_operator.applier import Applier, Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object, ObjectKey
from turbo_operator.core.graph import Graph, environment_of
from turbo_operator.core.plan import Action, being_deleted
from turbo_operator.memory import GraphMemory
from turbo_operator.store import Store
from turbo_operator.telemetry import parent, tracer
from turbo_operator.workqueue import FairPool

_OUTAGE = 16
"""After so many writes in a row without any answer the rest is left for later: it would only wait, too."""
_UNREADABLE = 3
"""After so many outcomes that cannot be read the rest is left for later: each may take seconds of a worker."""


@dataclass(slots=True)
class _Work:
    """What one reconcile writes for, and how many of its writes in a row got no answer at all."""

    obj: Object
    graph: Graph
    memory: GraphMemory
    context: Any
    unanswered: int = 0


class PlanWriter:
    """Writes for all graphs with a bounded number of threads."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        applier: Applier,
        actions: ActionLog,
        *,
        tell: Tell,
        threads: int,
        clock: Callable[[], float],
    ) -> None:
        self._stores = stores
        self._graphs = stores[names.GRAPH_KIND]
        self._applier = applier
        self._actions = actions
        self._tell = tell
        self._size = threads
        self._clock = clock
        self._pool: FairPool | None = None
        self._stopping = threading.Event()
        self.heard_at = clock()
        """When a write or a read last ended, whatever its outcome."""

    def start(self) -> None:
        """Start the threads; nothing is written before."""
        self._pool = FairPool(self._size, "write")

    def stop(self, timeout_s: float) -> bool:
        """Start no more writes and wait for those in flight; False if some are not done in time."""
        self._stopping.set()
        return self._pool is None or self._pool.stop(timeout_s)

    def threads(self) -> list[threading.Thread]:
        """Those that write; none before the start."""
        return [] if self._pool is None else self._pool.threads

    def carry_out(
        self,
        obj: Object,
        graph: Graph,
        memory: GraphMemory,
        due: list[Action],
        news: list[Action],
        *,
        started_ns: int,
    ) -> list[Record]:
        """Write what is due of a plan and tell what is news of it; gives the records of both.

        Args:
            obj: The APIGraph that was planned for. Nothing more is written once it is another one.
            graph: Its checked spec.
            memory: Of the graph; it learns how each write ended.
            due: The writes.
            news: Conflicts and refusals to be told.
            started_ns: When the reconcile began, in nanoseconds of the epoch: its span begins there.
        """
        metadata = obj["metadata"]
        annotations = metadata.get("annotations") or {}
        # The first work on a generation continues the trace that brought it; repairs are traces of their own.
        first = memory.first_work(metadata.get("generation", 0)) and not _carried_out(obj)
        context = parent(annotations.get(names.ANNOTATION_TRACEPARENT) if first else None)
        attributes = {
            "turbo.environment": graph.environment_id,
            "turbo.build": graph.build_id,
            "turbo.generation": metadata.get("generation", 0),
            "turbo.writes": len(due),
        }
        with tracer.start_as_current_span(
            "reconcile", context=context, start_time=started_ns, attributes=attributes
        ) as span:
            with tracer.start_as_current_span("plan", start_time=started_ns):
                pass  # it is done; now it is known to be worth a span
            records = [self._actions.record(graph.environment_id, action, "skipped") for action in news]
            records += self._write_all(_Work(obj, graph, memory, trace.set_span_in_context(span)), due)
            failed = [record for record in records if record["outcome"] not in {"ok", "skipped"}]
            if failed:
                span.set_status(trace.StatusCode.ERROR, f"{len(failed)} of {len(due)} writes failed")
        announce(self._tell, obj, records)
        return records

    def tell_news(self, obj: Object, news: list[Action]) -> list[Record]:
        """Tell why nothing can be made of a graph; gives the records of it."""
        records = [self._actions.record(environment_of(obj), action, "skipped") for action in news]
        announce(self._tell, obj, records)
        return records

    def read_back(self, memory: GraphMemory) -> None:
        """Find out what became of writes whose answer was lost, before anything is planned on top of them."""
        for action, result in self._read(memory):
            if result.outcome != "unknown":
                memory.was_read(action)
                if result.outcome == "ok":
                    self._take_result(memory, action, result)
                elif result.obj is not None:  # it did not land; the write has waited for its next try already
                    self._stores[action.kind].put(result.obj)
                self._tell_read(memory, action, result)

    def close(self, memory: GraphMemory) -> None:
        """The graph is gone: tell of each write whose answer was lost how it ended, or that nobody will know.

        What is not there proves nothing: it may have been made, and collected since.
        """
        read = {action.key: result for action, result in self._read(memory)}
        for action in memory.unread():
            result = read.get(action.key)
            absent = result is not None and result.obj is None and action.verb != "Delete"
            if result is None or result.outcome == "unknown" or absent:
                result = Result("unknown", message="its APIGraph was deleted before it could be read back")
            memory.was_read(action)
            self._tell_read(memory, action, result)

    def _read(self, memory: GraphMemory) -> Iterator[tuple[Action, Result]]:
        unreadable = 0
        for action in memory.unread():
            result = self._applier.read(action)
            self.heard_at = self._clock()
            yield action, result
            unreadable += result.outcome == "unknown"
            if unreadable == _UNREADABLE:
                return

    def _tell_read(self, memory: GraphMemory, action: Action, result: Result) -> None:
        self._actions.record(
            memory.environment_id, action, result.outcome, http_status=result.http_status, message=result.message
        )

    def _write_all(self, work: _Work, due: list[Action]) -> list[Record]:
        """Creates and updates component by component and in order within each, then deletes likewise."""
        records: list[Record] = []
        for deleting in (False, True):
            chains: dict[str, list[Action]] = defaultdict(list)
            for action in due:
                if (action.verb == "Delete") == deleting:
                    chains[action.component].append(action)
            futures = [
                self._pool.submit(work.graph.name, partial(self._write_chain, work, chain))
                for chain in chains.values()
                if self._pool is not None
            ]
            broken: Exception | None = None
            for future in futures:  # all of them, also if one breaks: a graph is never worked on twice at a time
                try:
                    records += future.result()
                except CancelledError:
                    pass  # the operator stops
                except Exception as error:  # noqa: BLE001 - raised below
                    broken = error
            if broken is not None:
                raise broken
        return records

    def _write_chain(self, work: _Work, chain: list[Action]) -> list[Record]:
        records: list[Record] = []
        for action in chain:
            if self._stopping.is_set() or not self._current(work.obj) or work.unanswered >= _OUTAGE:
                break
            config = ("ConfigMap", names.PREFIXES["ConfigMap"] + action.component)
            if action.kind == "Deployment" and action.verb != "Delete" and self._unsettled(work.memory, config):
                work.memory.hold(action, f"waits for ConfigMap {config[1]}")
                continue
            record = self._write(work, action)
            records.append(record)
            self.heard_at = self._clock()
            answered = record["http_status"] or record["outcome"] == "ok"
            work.unanswered = 0 if answered else work.unanswered + 1
            if record["outcome"] == "conflict":
                break  # somebody else was faster: whoever has the ConfigMap has the component
        return records

    def _unsettled(self, memory: GraphMemory, config: ObjectKey) -> bool:
        """Whether pods must not read a ConfigMap yet."""
        present = self._stores["ConfigMap"].get(config[1])
        return memory.unsettled(config) or present is None or being_deleted(present)

    def _current(self, obj: Object) -> bool:
        """Whether the graph is still the one that was planned: not deleted, not replaced, not changed."""
        present = self._graphs.get(obj["metadata"]["name"])
        return (
            present is not None
            and not being_deleted(present)
            and present["metadata"]["uid"] == obj["metadata"]["uid"]
            and present["metadata"].get("generation") == obj["metadata"].get("generation")
        )

    def _write(self, work: _Work, action: Action) -> Record:
        attributes = {"k8s.object.name": action.name, "turbo.action": action.verb}
        with tracer.start_as_current_span(f"apply {action.kind}", context=work.context, attributes=attributes) as span:
            started = time.perf_counter()
            result = self._applier.write(action)
            duration_s = time.perf_counter() - started
            span.set_attribute("http.response.status_code", result.http_status)
            if result.outcome != "ok":
                span.set_status(trace.StatusCode.ERROR, result.message)
            metrics.WRITE_SECONDS.labels(kind=action.kind).observe(duration_s)
            # Logged before anybody can see its effect in a status.
            record = self._actions.record(
                work.graph.environment_id,
                action,
                result.outcome,
                http_status=result.http_status,
                message=result.message,
                duration_s=duration_s,
                span=span,
            )
            self._take_result(work.memory, action, result)
            return record

    def _take_result(self, memory: GraphMemory, action: Action, result: Result) -> None:
        """Put what the API server answered into the cache, and remember what has to be done again."""
        store = self._stores[action.kind]
        if result.obj is not None:
            store.put(result.obj)
        elif action.verb == "Delete" and result.outcome == "ok":
            store.remove(action.name, action.uid or "")
        memory.take_result(action, result, self._clock())


def _carried_out(obj: Object) -> bool:
    """Whether an earlier process wrote into the status that all of this generation is written."""
    status = obj.get("status") or {}
    applied = any(c.get("type") == "Applied" and c.get("status") == "True" for c in status.get("conditions") or ())
    return applied and status.get("observedGeneration") == obj["metadata"].get("generation")
