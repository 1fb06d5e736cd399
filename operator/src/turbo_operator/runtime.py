"""Puts the operator together and runs it: stores, list-watches, reconciler, status keeper, builder sync."""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from turbo_operator.actions import ActionLog, Record
from turbo_operator.applier import Applier, NoopApplier, Result
from turbo_operator.buildersync import BuilderSync
from turbo_operator.core import names
from turbo_operator.core.desired import Object, Options
from turbo_operator.core.graph import environment_of
from turbo_operator.core.plan import being_deleted
from turbo_operator.graphs import GraphChange, GraphWriteError, GraphWriter, MemoryGraphs
from turbo_operator.graphwrites import GraphWrites
from turbo_operator.health import Health
from turbo_operator.kube.client import RESOURCES, KubeClient
from turbo_operator.kube.listwatch import ListWatch, Pace
from turbo_operator.reconciler import Reconciler, StoppedError
from turbo_operator.reports import Reports
from turbo_operator.routes import RouteTable
from turbo_operator.settings import Settings
from turbo_operator.statuskeeper import StatusKeeper
from turbo_operator.store import Store

GRACE_S = 10.0
"""Writes in flight may take this long after SIGTERM."""
_RECONCILE_TIMEOUT_S = 30.0

log = logging.getLogger(__name__)


class UnknownEnvironmentError(Exception):
    """There is no such environment."""


class Operator:
    """The whole operator but for its HTTP server.

    `start` returns at once; the caches fill in the background.
    """

    def __init__(self, settings: Settings, *, applier: Applier | None = None, pace: Pace | None = None) -> None:
        self.mode = settings.mode
        self.actions = ActionLog()
        self._settings = settings
        self._stopping = threading.Event()
        self._watches: list[ListWatch] = []
        self._threads: list[threading.Thread] = []
        self._stores = {kind: Store(kind, RESOURCES[kind][0]) for kind in (names.GRAPH_KIND, *names.KIND_ORDER)}
        self._graphs = self._stores[names.GRAPH_KIND]
        self._tell_event: Any = None
        self._writer: GraphWriter
        self._memory: NoopApplier | None = None
        if settings.mode == "k8s":
            applier = self._connect(settings, applier, pace)
        else:
            self._writer = MemoryGraphs(self._graphs)
            applier = self._memory = NoopApplier(self._is_there)
        options = Options(settings.stub_image, settings.otlp_endpoint)
        self._reconciler = Reconciler(
            self._stores, applier, self.actions, options, tell=self._tell, is_gone=self._is_gone
        )
        self.statuses = StatusKeeper(
            self._graphs, self._reconciler, self._writer, simulated=applier.simulated, tell=self._tell
        )
        self._reports = Reports(self.statuses)
        self.routes = RouteTable(self._graphs, self._reconciler)
        self._writes = GraphWrites(self._graphs, self._writer, self.actions)
        self._sync: BuilderSync | None = None
        if settings.builder_url is not None:
            self._sync = BuilderSync(
                settings.builder_url,
                settings.poll_interval_s,
                self._graphs,
                self._writes,
                self.actions,
                self._stopping,
                tell=self._tell,
            )
        self._reconciler.changed = self.statuses.changed
        for store in self._stores.values():
            store.listener = self._observe
        self.health = Health(self._stopping, self._stores, self._watches, self._reconciler.idle)
        self._starter = threading.Thread(target=self._begin, name="start", daemon=True)

    def _connect(self, settings: Settings, applier: Applier | None, pace: Pace | None) -> Applier:
        # Imported here: dev mode needs none of it.
        from turbo_operator.kube.applier import KubernetesApplier  # noqa: PLC0415
        from turbo_operator.kube.graphs import EventRecorder, KubernetesGraphs  # noqa: PLC0415

        client = KubeClient.from_environment(settings.namespace, settings.kubeconfig)
        self._writer = KubernetesGraphs(client, self._stopping)
        self._watches = [ListWatch(client, store, self._stopping, pace) for store in self._stores.values()]
        events = EventRecorder(client, self._stopping)
        self._threads.append(events)
        self._tell_event = events.tell
        return applier or KubernetesApplier(client, self._stopping)

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to list, then to work."""
        for store in self._stores.values():
            if not self._watches:
                store.synced.set()
        for thread in (*self._watches, *self._threads):
            thread.start()
            self.health.expect(thread)
        self._starter.start()

    def _begin(self) -> None:
        """No graph is looked at before every cache has been filled once."""
        for store in self._stores.values():
            while not store.synced.wait(0.5):
                if self._stopping.is_set():
                    return
        log.info("caches are synced", extra={"graphs": len(self._graphs.all()), "mode": self.mode})
        try:
            self._reconciler.start()
            self.health.expect(*self._reconciler.threads())
            self.statuses.start()
            self.health.expect(*self.statuses.threads)
            if self._sync is not None:
                self._sync.start()
                self.health.expect(self._sync)
        except Exception as error:
            log.exception("the loop could not begin")
            self.health.never_begun = f"{type(error).__name__}: {error}"

    def stop(self, grace_s: float = GRACE_S) -> bool:
        """Start no more writes and wait for those in flight; False if some were cut off."""
        deadline = time.monotonic() + grace_s
        self._stopping.set()
        self._writes.stop()
        self.routes.close()
        self.statuses.stop()
        done = self._reconciler.stop(grace_s)
        done &= self._writes.drain(max(0.0, deadline - time.monotonic()))
        self.statuses.join(max(0.0, deadline - time.monotonic()))
        return done

    # -- health -------------------------------------------------------------------------------------------------

    def synced(self) -> bool:
        """Whether the APIGraphs are known."""
        return self._graphs.synced.is_set()

    # -- what the HTTP API does -----------------------------------------------------------------------------------

    def report(self, environment_id: str) -> bytes | None:
        """The status of an environment as JSON; None if there is no such environment."""
        return self._reports.one(environment_id, self._refused())

    def reports(self) -> list[bytes]:
        """The statuses of all environments as JSON."""
        return self._reports.all(self._refused())

    def _refused(self) -> Mapping[str, str]:
        return self._sync.refused if self._sync is not None else {}

    def reconcile(self, spec: dict[str, Any], traceparent: str) -> tuple[list[Record], dict[str, Any]]:
        """Write the APIGraph of a checked spec and carry it out; gives the actions and the status after them.

        Raises:
            GraphWriteError: the APIGraph was not written, or nobody knows, or the reconcile did not end in time.
        """
        seen = self.actions.newest
        environment_id = str(spec["environmentId"])
        _, obj = self._writes.upsert(spec, source="api", reason="POST /v1/reconcile", traceparent=traceparent)
        name = obj["metadata"]["name"]
        done: Future[list[Record]] = self._reconciler.request(name)
        try:
            done.result(_RECONCILE_TIMEOUT_S)
        except FutureTimeoutError as error:
            text = f"APIGraph {name} is written; carrying it out takes longer than {_RECONCILE_TIMEOUT_S:.0f} s"
            raise GraphWriteError(503, "timeout", text) from error
        except StoppedError as error:
            raise GraphWriteError(503, "stopping", f"APIGraph {name} is written; {error}") from error
        snapshot = self.statuses.compute(name)
        report = snapshot.report if snapshot is not None else {}
        return self.actions.since(seen, environment_id), report

    def delete(self, environment_id: str) -> None:
        """Delete an environment's APIGraph; garbage collection removes the rest.

        Raises:
            UnknownEnvironmentError: there is none.
            GraphWriteError: it was not deleted, or nobody knows, or the builder would bring it back.
        """
        obj = self._graphs.get(names.graph_name(environment_id))
        if obj is None or environment_of(obj) != environment_id:
            raise UnknownEnvironmentError(environment_id)
        if being_deleted(obj):
            return
        source = (obj["metadata"].get("labels") or {}).get(names.LABEL_SOURCE)
        if source == "builder" and self._sync is not None and self._sync.serves(environment_id):
            what = f"the builder still has a graph of {environment_id} and would bring the APIGraph back"
            text = f"{what}: delete the environment at the environment manager"
            raise GraphWriteError(409, "builders", text)
        self._writes.remove(obj, environment_id, "DELETE /v1/environments")

    # -- wiring ---------------------------------------------------------------------------------------------------

    def _observe(self, kind: str, old: Object | None, new: Object | None) -> None:
        if self._memory is not None and kind == names.GRAPH_KIND and old is not None and new is None:
            self._collect(self._memory, old)
        known = old if new is None else new
        if kind == names.GRAPH_KIND and known is not None:
            self._writes.observe(known["metadata"]["name"], new)
        self._reconciler.observe(kind, old, new)
        self.routes.observe(kind, old, new)

    def _is_there(self, owner: Mapping[str, Any]) -> bool:
        """Whether the APIGraph of an ownerReference still exists."""
        graph = self._graphs.get(owner["name"])
        return graph is not None and graph["metadata"]["uid"] == owner["uid"]

    def _collect(self, memory: NoopApplier, graph: Object) -> None:
        """Dev mode's garbage collection: the children of a graph that is gone."""
        for obj in memory.collect(graph["metadata"]["uid"]):
            self._stores[obj["kind"]].remove(obj["metadata"]["name"], obj["metadata"]["uid"])

    def _is_gone(self, obj: Object) -> Result:
        return self._writer.read(GraphChange("Delete", obj))

    def _tell(self, graph: Object, kind: str, reason: str, message: str) -> None:
        if self._tell_event is not None:
            self._tell_event(graph, kind, reason, message, time.time())
