"""Keeps the status of every graph true: computes it whenever something changed, publishes it, writes it to the CR.

It has threads of its own, so that reading a status never waits for writes, and a long apply shows its progress.
"""

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from turbo_operator import metrics
from turbo_operator.announcements import Tell
from turbo_operator.core import names
from turbo_operator.core.graph import environment_of
from turbo_operator.core.plan import being_deleted
from turbo_operator.core.status import Subject, status
from turbo_operator.graphs import GraphWriter
from turbo_operator.reconciler import Reconciler
from turbo_operator.statuswriter import StatusWriter
from turbo_operator.store import Store
from turbo_operator.workqueue import WorkQueue

_COALESCE_S = 0.1
_COALESCE_PER_COMPONENT_S = 0.001
"""Computing a status costs 25 us a component: while a large graph is written it is done about once a second."""
_LATE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The published status of one environment."""

    environment_id: str
    uid: str
    report: dict[str, Any]
    """As served by the HTTP API."""
    status: dict[str, Any]
    """As written to the APIGraph."""
    planned: bool = True
    """Whether it rests on a comparison of this generation with the cluster, made by this process."""
    ticket: int = 0
    """Grows with the time its computation began: one that began earlier never takes the place of a later one."""

    @cached_property
    def encoded(self) -> bytes:
        """The report as JSON."""
        return json.dumps(self.report, ensure_ascii=False, separators=(",", ":")).encode()


class StatusKeeper:
    """Computes, publishes and writes statuses."""

    def __init__(
        self,
        graphs: Store,
        reconciler: Reconciler,
        writer: GraphWriter,
        *,
        simulated: bool,
        tell: Tell,
        threads: int = 2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._graphs = graphs
        self._reconciler = reconciler
        self._writer = StatusWriter(graphs, writer, tell=tell)
        self._simulated = simulated
        self._clock = clock
        self._queue = WorkQueue("status")
        self._lock = threading.Lock()
        self._snapshots: dict[str, Snapshot] = {}
        self._tickets = itertools.count(1)
        self._changed_at: dict[str, float] = {}
        self.threads = [threading.Thread(target=self._work, name=f"status-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        """Begin; all graphs are computed once, and counted in the metrics."""
        metrics.GRAPHS.count = self.phases
        for obj in self._graphs.all():
            self._queue.add(obj["metadata"]["name"])
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Take no more work."""
        self._queue.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the writes in flight."""
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def changed(self, name: str) -> None:
        """The status of a graph may be another one."""
        self._changed_at.setdefault(name, time.monotonic())
        self._queue.add(name, self._coalesce_s(self._snapshots.get(name)))

    @staticmethod
    def _coalesce_s(snapshot: Snapshot | None) -> float:
        components = len(snapshot.status["componentStatuses"]) if snapshot is not None else 0
        return max(_COALESCE_S, _COALESCE_PER_COMPONENT_S * components)

    def get(self, environment_id: str) -> Snapshot | None:
        """The newest status of an environment, None if there is none."""
        name = names.graph_name(environment_id)
        snapshot = self._current(name)
        if snapshot is None or snapshot.environment_id == environment_id:
            return snapshot
        # Of a graph that went before this process began, only the name is known, by its children.
        return snapshot if not snapshot.uid and snapshot.environment_id == name else None

    def all(self) -> list[Snapshot]:
        """The newest status of every environment, sorted by name."""
        with self._lock:
            known = set(self._snapshots)
        known |= {obj["metadata"]["name"] for obj in self._graphs.all()}
        found = [self._current(name) for name in sorted(known)]
        return [snapshot for snapshot in found if snapshot is not None]

    def _current(self, name: str) -> Snapshot | None:
        """What is published, unless the APIGraph is another one by now: a status never speaks of an old spec.

        Nor is a change left out for long: where the keeper's threads are late, for their writes hang, it is taken in
        by whoever reads.
        """
        obj = self._graphs.get(name)
        if obj is None:
            return self._farewell(name)
        with self._lock:
            snapshot = self._snapshots.get(name)
        generation = obj["metadata"].get("generation", 0)
        late_s = time.monotonic() - self._changed_at.get(name, float("inf")) - self._coalesce_s(snapshot)
        if (
            snapshot is None
            or late_s > _LATE_S
            or snapshot.uid != obj["metadata"]["uid"]
            or snapshot.status["observedGeneration"] != generation
            or (snapshot.status["phase"] == "Deleting") != being_deleted(obj)
        ):
            return self.compute(name)
        return snapshot

    def _farewell(self, name: str) -> Snapshot | None:
        """The APIGraph is gone: Deleting as long as garbage collection has not removed its children, then None."""
        left = self._reconciler.leftovers(name)
        with self._lock:
            before = self._snapshots.get(name)
            if not left:
                self._snapshots.pop(name, None)
                return None
        report = before.report if before is not None else {"environmentId": name, "rootPackage": "", "buildId": ""}
        conditions = [
            {
                "type": "Progressing",
                "status": "True",
                "reason": "Deleting",
                "message": f"garbage collection has not yet removed {left}",
                "observedGeneration": report.get("observedGeneration", 0),
                "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock())),
            }
        ]
        gone = {
            "observedGeneration": 0,
            **report,
            "phase": "Deleting",
            "componentStatuses": [],
            "conditions": conditions,
        }
        return Snapshot(str(report["environmentId"]), "", gone, gone)

    def compute(self, name: str) -> Snapshot | None:
        """Compute and publish the status of one graph now; None if it does not exist."""
        ticket = next(self._tickets)
        self._changed_at.pop(name, None)
        obj = self._graphs.get(name)
        with self._lock:
            before = self._snapshots.get(name)
        if obj is None:
            self._writer.forget(name)
            return self._farewell(name)
        metadata = obj["metadata"]
        spec = obj.get("spec") or {}
        graph = self._reconciler.spec_of(obj)
        progress = self._reconciler.progress(obj)
        # What is said before the first comparison is no state to count transitions from.
        known = before is not None and before.planned and before.uid == metadata["uid"]
        previous = before.status if before is not None and known else obj.get("status")
        computed = status(
            graph,
            self._reconciler.observed(name, graph),
            progress,
            Subject(
                generation=metadata.get("generation", 0),
                build_id=str(spec.get("buildId") or ""),
                deleting=being_deleted(obj),
                previous=previous,
            ),
            now=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock())),
            simulated=self._simulated,
        )
        environment_id = environment_of(obj)
        report = {"environmentId": environment_id, "rootPackage": str(spec.get("rootPackage") or ""), **computed}
        planned = progress.generation == metadata.get("generation", 0)
        snapshot = Snapshot(environment_id, metadata["uid"], report, computed, planned, ticket)
        with self._lock:
            newest = self._snapshots.get(name)
            if newest is not None and newest.ticket > ticket:
                return newest
            self._snapshots[name] = snapshot
        if self._graphs.get(name) is None:  # it went meanwhile, and whoever saw that may be through
            return self._farewell(name)
        return snapshot

    def _work(self) -> None:
        while (name := self._queue.get()) is not None:
            try:
                self._keep(name)
                self._queue.succeeded(name)
            except Exception:
                delay = self._queue.failed(name)
                log.exception("the status of %s could not be computed; again in %.1f s", name, delay)
            finally:
                self._queue.done(name)

    def _keep(self, name: str) -> None:
        """Publish and write what is true now."""
        snapshot = self.compute(name)
        obj = self._graphs.get(name)
        if snapshot is None or obj is None or obj["metadata"]["uid"] != snapshot.uid:
            return
        if snapshot.status["observedGeneration"] != obj["metadata"].get("generation", 0):
            return
        if not snapshot.planned and not being_deleted(obj):
            return  # not yet compared in this process: what stands there is the better knowledge
        again_in_s = self._writer.write(name, obj, snapshot.status)
        if again_in_s is not None:
            self._queue.add(name, again_in_s)

    def phases(self) -> dict[str, int]:
        """How many graphs are in each phase, by what is published."""
        with self._lock:
            published = list(self._snapshots.items())
        counts = dict.fromkeys(("Deleting", "Failed", "Degraded", "Reconciling", "Deploying", "Running"), 0)
        for name, snapshot in published:
            counts[snapshot.status["phase"] if self._graphs.get(name) is not None else "Deleting"] += 1
        return counts
