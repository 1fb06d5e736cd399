"""The loop: takes an APIGraph from the queue, plans, writes, remembers what failed, and comes again."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from opentelemetry import trace

from turbo_operator import metrics
from turbo_operator.actions import ActionLog, Record
from turbo_operator.applier import Applier, Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object, ObjectKey, Options, Owner, desired
from turbo_operator.core.graph import Graph, Refusal
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import Action, being_deleted, plan
from turbo_operator.core.rollout import Progress
from turbo_operator.memory import GraphMemory
from turbo_operator.store import Store, graphs_of, owners_of, same_but_status
from turbo_operator.telemetry import parent, tracer
from turbo_operator.workqueue import FairPool, WorkQueue

_RESYNC_S = 300.0
"""Every graph is compared again that often, also when nothing was heard: a safety net, not the mechanism."""
_STUCK_S = 120.0
_OUTAGE = 16
"""After so many writes in a row without any answer the rest is left for later: it would only wait, too."""
_UNREADABLE = 3
"""After so many outcomes that cannot be read the rest is left for later: each may take seconds of a worker."""

_EVENTS = 10
"""So many Events of one reason follow from one reconcile; the rest is counted in one more."""

log = logging.getLogger(__name__)

Tell = Callable[[Object, str, str, str], None]
"""Called with (APIGraph, Normal or Warning, reason, message)."""


class StoppedError(Exception):
    """The operator stops and works on nothing any more."""


@dataclass(slots=True)
class _Work:
    """What one reconcile writes for, and how many of its writes in a row got no answer at all."""

    obj: Object
    graph: Graph
    memory: GraphMemory
    context: Any
    unanswered: int = 0


class Reconciler:
    """Plans and writes for all graphs, with a bounded number of threads."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        applier: Applier,
        actions: ActionLog,
        options: Options,
        *,
        tell: Tell,
        workers: int = 4,
        writers: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = stores
        self._graphs = stores[names.GRAPH_KIND]
        self._kinds = [stores[kind] for kind in names.KIND_ORDER]
        self._applier = applier
        self._actions = actions
        self._options = options
        self._tell = tell
        self._clock = clock
        self._writers = writers
        self.queue = WorkQueue("reconcile")
        self.changed: Callable[[str], None] = lambda _name: None
        """Called with the name of a graph whenever its status may be another one."""
        self._pool: FairPool | None = None
        self._workers = [
            threading.Thread(target=self._work, name=f"reconcile-{n}", daemon=True) for n in range(workers)
        ]
        self._lock = threading.Lock()
        self._memories: dict[str, GraphMemory] = {}
        self._specs: dict[str, tuple[str, int, Graph | Refusal]] = {}
        self._claims: dict[ObjectKey, set[str]] = defaultdict(set)
        self._waiting: dict[str, list[Future[list[Record]]]] = defaultdict(list)
        self._alive_at = clock()
        self._stopping = threading.Event()

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look at every graph once, then at whatever changes. The stores must be synced."""
        self._pool = FairPool(self._writers, "write")
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
        done = self._pool is None or self._pool.stop(timeout_s)
        for thread in self._workers:  # they end the spans that the writes belong to
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return done

    def stuck(self) -> str | None:
        """Why the loop counts as stuck, None if it is not: a dead worker, or work and no progress for two minutes."""
        if self._pool is not None and not self._stopping.is_set():
            dead = [each.name for each in self._workers if each.ident is not None and not each.is_alive()]
            if dead:
                return f"worker threads are gone: {', '.join(dead)}"
            idle_s = self._clock() - self._alive_at
            if self.queue.oldest_due_s() > _STUCK_S and idle_s > _STUCK_S:
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
            self._alive_at = self._clock()
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
        if being_deleted(obj):
            self.changed(name)
            return []
        memory = self._memory(name, obj["metadata"]["uid"])
        generation = obj["metadata"].get("generation", 0)
        graph = self.spec_of(obj)
        self._read_back(memory, graph)
        started_ns = time.time_ns()
        if isinstance(graph, Refusal):
            memory.take_refusal(generation)
            self.changed(name)
            return []
        owner = Owner(name, obj["metadata"]["uid"])
        wanted = desired(graph, owner, self._options)
        observed = self.observed(name, graph)
        planned = plan(graph, wanted, observed, owner)
        due = memory.take_plan(generation, planned, wanted, observed, self._clock())
        self._claim(name, memory.conflicts())
        self.changed(name)
        records: list[Record] = []
        news = memory.news(planned)
        if due or news:
            records = self._carry_out(obj, graph, memory, due, news, started_ns=started_ns)
            self.changed(name)
        retry_in_s = memory.retry_in_s(self._clock())
        self.queue.add(name, _RESYNC_S if retry_in_s is None else retry_in_s)
        return records

    def _claim(self, name: str, conflicts: set[ObjectKey]) -> None:
        """Remember who wants the names that others hold, to come again when they are free."""
        with self._lock:
            for key in [key for key, claimants in self._claims.items() if name in claimants and key not in conflicts]:
                self._claims[key].discard(name)
                if not self._claims[key]:
                    del self._claims[key]
            for key in conflicts:
                self._claims[key].add(name)

    def _carry_out(
        self,
        obj: Object,
        graph: Graph,
        memory: GraphMemory,
        due: list[Action],
        news: list[Action],
        *,
        started_ns: int,
    ) -> list[Record]:
        metadata = obj["metadata"]
        annotations = metadata.get("annotations") or {}
        # The first work on a generation continues the trace that brought it; repairs are traces of their own.
        first = memory.first_work(metadata.get("generation", 0))
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
        self._announce(obj, records)
        return records

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
            self._alive_at = self._clock()
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

    def _read_back(self, memory: GraphMemory, graph: Graph | Refusal) -> None:
        """Find out what became of writes whose answer was lost, before anything is planned on top of them."""
        unanswered = 0
        for action in memory.unread():
            result = self._applier.read(action)
            self._alive_at = self._clock()
            if result.outcome == "unknown":
                unanswered += 1
                if unanswered == _UNREADABLE:
                    break
                continue
            memory.was_read(action)
            self._take_result(memory, action, result)
            environment_id = graph.environment_id if isinstance(graph, Graph) else ""
            status = result.http_status
            self._actions.record(environment_id, action, result.outcome, http_status=status, message=result.message)

    # -- memory -------------------------------------------------------------------------------------------------

    def _memory(self, name: str, uid: str) -> GraphMemory:
        with self._lock:
            memory = self._memories.get(name)
            if memory is None or memory.uid != uid:
                memory = self._memories[name] = GraphMemory(uid)
            return memory

    def _forget(self, name: str) -> None:
        self._claim(name, set())
        with self._lock:
            self._memories.pop(name, None)
            self._specs.pop(name, None)

    def _announce(self, obj: Object, records: list[Record]) -> None:
        """One Event for all writes of a reconcile; one each for what cannot be done, up to a number."""
        done = [r for r in records if r["outcome"] == "ok"]
        if done:
            counts = {verb: sum(r["action"] == verb for r in done) for verb in ("Create", "Update", "Delete")}
            told = ", ".join(f"{verb.lower()}d {count}" for verb, count in counts.items() if count)
            objects = ", ".join(f"{r['resource_kind']} {r['resource_name']}" for r in done[:6])
            more = f" and {len(done) - 6} more" if len(done) > 6 else ""  # noqa: PLR2004 - as many as were named
            self._tell(obj, "Normal", "Applied", f"{told}: {objects}{more}")
        troubles: dict[str, list[str]] = defaultdict(list)
        for record in records:
            what = f"{record['resource_kind']} {record['resource_name']}: {record['reason']}"
            if record["outcome"] == "skipped":
                troubles[record["action"]].append(what)
            elif record["outcome"] in {"failed", "unknown"}:
                troubles["WriteFailed"].append(what)
        for reason, told_of in troubles.items():
            for what in told_of[:_EVENTS]:
                self._tell(obj, "Warning", reason, what)
            if len(told_of) > _EVENTS:
                rest = f"and {len(told_of) - _EVENTS} more, which the action log and the status name"
                self._tell(obj, "Warning", reason, rest)
