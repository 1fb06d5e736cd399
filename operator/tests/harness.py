"""A reconciler over memory, with appliers that record and fail."""

import time
from collections.abc import Callable
from typing import Any

from turbo_operator.actions import ActionLog
from turbo_operator.applier import Applier, NoopApplier, Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object, Options
from turbo_operator.core.plan import Action
from turbo_operator.graphs import GraphChange, GraphWriter, MemoryGraphs, Spec, change_to, take
from turbo_operator.graphwrites import GraphWrites
from turbo_operator.kube.client import RESOURCES
from turbo_operator.reconciler import Reconciler
from turbo_operator.statuskeeper import StatusKeeper
from turbo_operator.store import Store

Fault = Callable[[Action], Result | None]


def upsert(writer: GraphWriter, store: Store, spec: Spec, *, source: str, traceparent: str | None = None) -> str:
    """Write an APIGraph, without a word in any log; gives its name."""
    change = change_to(spec, store, source=source, traceparent=traceparent)
    if change is not None:
        take(store, change, writer.write(change))
    return names.graph_name(spec["environmentId"])


class RecordingApplier:
    """Writes to memory, remembers each write, and lets a test put a result in place of the real one."""

    simulated = False

    def __init__(self, memory: NoopApplier | None = None, fault: Fault | None = None) -> None:
        self.memory = memory or NoopApplier()
        self.fault = fault
        self.writes: list[Action] = []
        self.reads: list[Action] = []

    def write(self, action: Action) -> Result:
        """Record, then fail or write."""
        self.writes.append(action)
        result = self.fault(action) if self.fault is not None else None
        return result or self.memory.write(action)

    def read(self, action: Action) -> Result:
        """Record, then read."""
        self.reads.append(action)
        return self.memory.read(action)

    def verbs(self) -> list[str]:
        """What was written, in short."""
        return [f"{action.verb} {action.kind} {action.name}" for action in self.writes]


class Harness:
    """Stores, a reconciler and a status keeper without threads for watching; `clock` can be moved on by hand."""

    def __init__(self, applier: Applier, *, start: bool = True, writers: int = 16) -> None:
        self.stores = {kind: Store(kind, RESOURCES[kind][0]) for kind in (names.GRAPH_KIND, *names.KIND_ORDER)}
        self.graphs = self.stores[names.GRAPH_KIND]
        self.writer = MemoryGraphs(self.graphs)
        self.actions = ActionLog()
        self.writes = GraphWrites(self.graphs, self.writer, self.actions)
        self.events: list[tuple[str, str, str]] = []
        self.now = time.monotonic()
        self.reconciler = Reconciler(
            self.stores,
            applier,
            self.actions,
            Options(),
            tell=self._tell,
            is_gone=lambda obj: self.writer.read(GraphChange("Delete", obj)),
            writers=writers,
            clock=lambda: self.now,
        )
        self.statuses = StatusKeeper(self.graphs, self.reconciler, self.writer, simulated=False, tell=self._tell)
        if start:
            self.reconciler.start()

    def _tell(self, _: Object, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))

    def listen(self) -> None:
        """Let changes of the stores be heard, as they are in an operator."""
        for store in self.stores.values():
            store.listener = self.reconciler.observe
        self.reconciler.changed = self.statuses.changed

    def feed(self, memory: NoopApplier) -> None:
        """Fill the caches from memory, as a list after a start does."""
        for kind in names.KIND_ORDER:
            objects = [obj for key, obj in memory.objects.items() if key[0] == kind]
            self.stores[kind].replace(objects, 10**9)

    def put(self, spec: dict[str, Any]) -> str:
        """Write the APIGraph; gives its name."""
        return upsert(self.writer, self.graphs, spec, source="api")

    def drop(self, name: str) -> None:
        """Delete the APIGraph."""
        obj = self.graphs.get(name)
        assert obj is not None
        change = GraphChange("Delete", obj)
        take(self.graphs, change, self.writer.write(change))

    def status(self, name: str = "env-1") -> dict[str, Any]:
        """The status as it is now."""
        snapshot = self.statuses.compute(name)
        assert snapshot is not None
        return snapshot.status

    def stop(self) -> None:
        """End the threads."""
        assert self.reconciler.stop(5)
