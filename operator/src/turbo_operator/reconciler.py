"""The loop: takes an APIGraph from the queue, plans, has written what is due, and comes again."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace

from turbo_operator import metrics
from turbo_operator.actions import ActionLog, Record
from turbo_operator.announcements import Tell
from turbo_operator.applier import Applier, Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object, ObjectKey, Options, Owner, desired
from turbo_operator.core.graph import Graph, Refusal, environment_of
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import Action, being_deleted, plan
from turbo_operator.core.rollout import Progress
from turbo_operator.memory import GraphMemory
from turbo_operator.planwriter import PlanWriter
from turbo_operator.store import Store, graphs_of, owners_of, same_but_status
from turbo_operator.workqueue import WorkQueue

_RESYNC_S = 300.0
"""Every graph is compared again that often, also when nothing was heard: a safety net, not the mechanism."""
_READ_AGAIN_S = 5.0
"""So often is asked what became of the last writes of a graph that is refused by now."""
_STUCK_S = 120.0

IsGone = Callable[[Object], Result]
"""Asks the API server for an APIGraph: ok if it is gone or being deleted, failed if not, unknown without an answer."""

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The operator stops and works on nothing any more."""


class Reconciler:
    """Plans for all graphs, with a bounded number of threads; a `PlanWriter` carries the plans out."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        applier: Applier,
        actions: ActionLog,
        options: Options,
        *,
        tell: Tell,
        is_gone: IsGone,
        workers: int = 16,
        writers: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = stores
        self._graphs = stores[names.GRAPH_KIND]
        self._kinds = [stores[kind] for kind in names.KIND_ORDER]
        self._options = options
        self._is_gone = is_gone
        self._clock = clock
        self._writer = PlanWriter(stores, applier, actions, tell=tell, threads=writers, clock=clock)
        self.queue = WorkQueue("reconcile")
        self.changed: Callable[[str], None] = lambda _name: None
        """Called with the name of a graph whenever its status may be another one."""
        self._workers = [
            threading.Thread(target=self._work, name=f"reconcile-{n}", daemon=True) for n in range(workers)
        ]
        self._lock = threading.Lock()
        self._memories: dict[str, GraphMemory] = {}
        self._specs: dict[str, tuple[str, int, Graph | Refusal]] = {}
        self._claims: dict[ObjectKey, set[str]] = defaultdict(set)
        self._waiting: dict[str, list[Future[list[Record]]]] = defaultdict(list)
        self._began_at = clock()
        """When a worker last took a graph up."""
        self._stopping = threading.Event()

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look at every graph once, then at whatever changes. The stores must be synced."""
        self._writer.start()
        for obj in self._graphs.all():
            self.queue.add(obj["metadata"]["name"])
        for thread in self._workers:
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Start no more writes and wait for those in flight; False if some are not done in time."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._stopping.set()
            unheard = [future for futures in self._waiting.values() for future in futures]
            self._waiting.clear()
        for future in unheard:
            future.set_exception(StoppedError("the operator stops"))
        self.queue.stop()
        done = self._writer.stop(timeout_s)
        for thread in self._workers:  # they end the spans that the writes belong to
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return done

    def threads(self) -> list[threading.Thread]:
        """All threads that plan and write; each is needed for as long as the operator runs."""
        return [*self._workers, *self._writer.threads()]

    def idle(self) -> str | None:
        """Why the loop counts as stuck, None if it does not: there is work, and no progress for two minutes."""
        idle_s = self._clock() - max(self._began_at, self._writer.heard_at)
        started = self._workers[0].ident is not None
        if started and not self._stopping.is_set() and self.queue.oldest_due_s() > _STUCK_S and idle_s > _STUCK_S:
            return f"graphs are due and nothing happened for {idle_s:.0f} s"
        return None

    def observe(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Listener of all stores: put the graphs concerned into the queue."""
        if kind == names.GRAPH_KIND:
            concerned = {obj["metadata"]["name"] for obj in (old, new) if obj is not None}
        else:
            concerned = {graph for obj in (old, new) if obj is not None for graph in graphs_of(obj)}
            named = {obj["metadata"]["name"] for obj in (old, new) if obj is not None}
            with self._lock:
                concerned |= {graph for name in named for graph in self._claims.get((kind, name), ())}
        replan = not same_but_status(old, new)
        for name in concerned:
            if replan:
                self.queue.add(name)
            self.changed(name)

    def request(self, name: str) -> "Future[list[Record]]":
        """Reconcile a graph now; the future gives the records of the actions, or `StoppedError`."""
        future: Future[list[Record]] = Future()
        with self._lock:
            if not self._stopping.is_set():
                self._waiting[name].append(future)
                self.queue.add(name)
                return future
        future.set_exception(StoppedError("the operator stops"))
        return future

    # -- what others read ---------------------------------------------------------------------------------------

    def spec_of(self, obj: Object) -> Graph | Refusal:
        """The checked spec of an APIGraph; computed once per generation."""
        metadata = obj["metadata"]
        name, uid, generation = metadata["name"], metadata["uid"], metadata.get("generation", 0)
        known = self._specs.get(name)
        if known is not None and known[:2] == (uid, generation):
            return known[2]
        graph = normalize(obj.get("spec"))
        if isinstance(graph, Graph) and graph.name != name:
            graph = Refusal((f"metadata.name: must be {graph.name!r} for environment {graph.environment_id!r}",))
        self._specs[name] = (uid, generation, graph)
        if self._graphs.get(name) is None:  # forgotten meanwhile; nobody would do so again
            self._specs.pop(name, None)
        return graph

    def progress(self, obj: Object) -> Progress:
        """How far the writer is with an APIGraph."""
        with self._lock:
            memory = self._memories.get(obj["metadata"]["name"])
        return Progress(0) if memory is None or memory.uid != obj["metadata"]["uid"] else memory.progress()

    def observed(self, name: str, graph: Graph | Refusal) -> dict[ObjectKey, Object]:
        """The cached objects that matter to a graph: those it wants and those that belong to it."""
        found = {(store.kind, obj["metadata"]["name"]): obj for store in self._kinds for obj in store.of_graph(name)}
        if isinstance(graph, Graph):
            components = [c.name for c in graph.components] + [r.name for r in graph.refused]
            for component in components:
                for store in self._kinds:
                    key = (store.kind, names.PREFIXES[store.kind] + component)
                    if key not in found and (obj := store.get(key[1])) is not None:
                        found[key] = obj
        return found

    def leftovers(self, name: str) -> str:
        """What garbage collection has still to remove of a graph that is gone, in words; empty if nothing."""
        left = [
            f"{store.kind} {obj['metadata']['name']}"
            for store in self._kinds
            for obj in store.of_graph(name)
            if any(r.get("kind") == names.GRAPH_KIND and r.get("name") == name for r in owners_of(obj))
        ]
        return ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")  # noqa: PLR2004 - a line

    # -- the loop -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (name := self.queue.get()) is not None:
            self._began_at = self._clock()
            with self._lock:
                waiting = self._waiting.pop(name, [])
            started = time.perf_counter()
            try:
                records = self.reconcile(name)
                metrics.RECONCILES.labels(result="ok").inc()
                self.queue.succeeded(name)
                for future in waiting:
                    future.set_result(records)
            except Exception as error:
                metrics.RECONCILES.labels(result="error").inc()
                delay = self.queue.failed(name)
                log.exception("reconcile of %s failed and comes again in %.1f s", name, delay)
                for future in waiting:
                    future.set_exception(error)
            finally:
                metrics.RECONCILE_SECONDS.observe(time.perf_counter() - started)
                self.queue.done(name)

    def reconcile(self, name: str) -> list[Record]:
        """One look at one graph: plan, write what is due, remember the rest. Gives the records of its actions."""
        obj = self._graphs.get(name)
        if obj is None:
            self._forget(name)
            self.changed(name)
            return []
        memory = self._memory(obj)
        if being_deleted(obj):
            self._writer.close(memory)
            self.changed(name)
            return []
        generation = obj["metadata"].get("generation", 0)
        graph = self.spec_of(obj)
        self._writer.read_back(memory)
        started_ns = time.time_ns()
        refusals = tuple(Action("Refuse", names.GRAPH_KIND, name, "", problem) for problem in graph.problems)
        if isinstance(graph, Refusal):
            memory.take_refusal(generation)
            self.changed(name)
            if memory.unread():
                self.queue.add(name, _READ_AGAIN_S)
            return self._writer.tell_news(obj, memory.news(refusals))
        owner = Owner(name, obj["metadata"]["uid"])
        wanted = desired(graph, owner, self._options)
        observed = self.observed(name, graph)
        planned = plan(graph, wanted, observed, owner)
        known = bool(memory.generation or obj.get("status"))
        due = memory.take_plan(generation, planned, wanted, observed, self._clock())
        self._claim(name, memory.conflicts(), observed)
        self.changed(name)
        if known:
            due = self._confirmed(obj, memory, due)
        records: list[Record] = []
        news = memory.news((*refusals, *planned))
        if due or news:
            records = self._writer.carry_out(obj, graph, memory, due, news, started_ns=started_ns)
            self.changed(name)
        retry_in_s = memory.retry_in_s(self._clock())
        self.queue.add(name, _RESYNC_S if retry_in_s is None else retry_in_s)
        return records

    def _confirmed(self, obj: Object, memory: GraphMemory, due: list[Action]) -> list[Action]:
        """The part of `due` that may be written of an APIGraph some of whose objects are missing.

        Garbage collection removes them after the APIGraph, but the watches of different kinds are heard in any order:
        what is asked for after an object was seen to be gone is what the deletion left.
        """
        creates = [action for action in due if action.verb == "Create"]
        if not creates:
            return due
        metadata = obj["metadata"]
        result = self._is_gone(obj)
        if result.obj is not None:
            self._graphs.put(result.obj)
        elif result.outcome == "ok":
            self._graphs.remove(metadata["name"], metadata["uid"])
        if result.outcome != "unknown":
            return due if result.outcome == "failed" else []
        message = f"not made: whether the APIGraph is still there is not known: {result.message}"
        log.warning("of %s %d missing objects are %s", metadata["name"], len(creates), message)
        for action in creates:
            memory.take_result(action, replace(result, outcome="failed", message=message, sent=False), self._clock())
        return [action for action in due if action.verb != "Create"]

    def _claim(self, name: str, conflicts: set[ObjectKey], observed: Mapping[ObjectKey, Object]) -> None:
        """Remember who wants the names that others hold, to come again when they are free.

        What changed since it was observed nobody has been woken for: the claim came too late.
        """
        with self._lock:
            for key in [key for key, claimants in self._claims.items() if name in claimants and key not in conflicts]:
                self._claims[key].discard(name)
                if not self._claims[key]:
                    del self._claims[key]
            for key in conflicts:
                self._claims[key].add(name)
        if any(not same_but_status(observed[key], self._stores[key[0]].get(key[1])) for key in conflicts):
            self.queue.add(name)

    # -- memory -------------------------------------------------------------------------------------------------

    def _memory(self, obj: Object) -> GraphMemory:
        name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
        with self._lock:
            before = self._memories.get(name)
            if before is not None and before.uid == uid:
                return before
            memory = self._memories[name] = GraphMemory(uid, environment_of(obj))
        if before is not None:
            self._writer.close(before)
        return memory

    def _forget(self, name: str) -> None:
        self._claim(name, set(), {})
        with self._lock:
            memory = self._memories.pop(name, None)
            self._specs.pop(name, None)
        if memory is not None:
            self._writer.close(memory)
