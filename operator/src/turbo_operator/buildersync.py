"""Brings the builder's graphs into APIGraphs: creates, updates, and prunes with care.

The builder is asked with `Prefer: wait`, so a change arrives at once. An APIGraph is pruned only if the builder made
it, and only on proof that the builder deleted it: two well-formed answers in a row that lack it, from the same data
store that held it before. A builder that lost its data is another store and proves nothing; of a builder that does not
name its store, the graph must have been seen in an earlier answer with another ETag. Failed and partial answers
prove nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace

from turbo_operator import metrics
from turbo_operator.actions import ActionLog
from turbo_operator.applier import Result
from turbo_operator.builderanswer import Answer, PollError, prunable
from turbo_operator.builderclient import BuilderClient
from turbo_operator.core import names
from turbo_operator.core.canonical import digest
from turbo_operator.core.desired import Object
from turbo_operator.core.graph import environment_of
from turbo_operator.core.plan import Action, Verb
from turbo_operator.graphretries import GraphRetries
from turbo_operator.graphs import GraphWriteError, Spec
from turbo_operator.graphwrites import GraphWrites
from turbo_operator.store import Store
from turbo_operator.telemetry import current_traceparent, parent, tracer

_CONFIRM_AFTER_S = 1.0
_FIRST_RETRY_S = 0.8
_LEAST_PAUSE_S = 0.2
_LONGEST_HURRY_S = 2.0
"""Polls of a builder that has something new each time are that far apart at most, and as a rule much less."""

log = logging.getLogger(__name__)


class BuilderSync(threading.Thread):
    """Thread that polls the builder."""

    def __init__(
        self,
        url: str,
        interval_s: float,
        graphs: Store,
        writes: GraphWrites,
        actions: ActionLog,
        stopping: threading.Event,
        *,
        tell: Callable[[Object, str, str, str], None],
    ) -> None:
        super().__init__(name="builder-sync", daemon=True)
        self._builder = BuilderClient(url)
        self._interval_s = interval_s
        self._graphs = graphs
        self._writes = writes
        self._actions = actions
        self._stopping = stopping
        self._tell = tell
        self._retries = GraphRetries()
        self._last: Answer | None = None
        self._seen: dict[str, str] = {}
        self._candidates: set[str] = set()
        self._told: dict[str, str] = {}
        self._failures = 0
        self._pause_s = _LEAST_PAUSE_S
        self.refused: Mapping[str, str] = {}
        """Environment id -> why its graph could not be written."""

    def run(self) -> None:
        """Poll until the operator stops."""
        while not self._stopping.is_set():
            try:
                pause = self.poll()
                if self._failures:
                    log.info("the builder answers again after %d failed polls", self._failures)
                self._failures = 0
            except PollError as error:
                pause = self._failed(str(error))
            except Exception as error:
                log.exception("a poll of the builder met something unexpected")
                pause = self._failed(f"{type(error).__name__}: {error}")
            self._stopping.wait(pause)

    def serves(self, environment_id: str) -> bool:
        """Whether the builder's last answer has a graph of that environment."""
        return self._last is not None and environment_id in self._last.graphs

    def poll(self) -> float:
        """One poll and what follows from it; gives the seconds to wait before the next.

        Raises:
            PollError: no usable answer; nothing was changed.
        """
        started = time.monotonic()
        confirming = any(self._retries.waits(name, "Delete") is None for name in self._candidates)
        # A hold ends in time for what has to be tried again.
        wait_s = 0 if confirming else int(min(max(1.0, self._interval_s), self._retries.due_in_s()))
        known_etag = self._last.etag if self._last is not None and not confirming else ""
        answer = self._builder.ask(known_etag, wait_s if known_etag else 0)
        differs = answer is not None and (self._last is None or answer.graphs != self._last.graphs)
        metrics.BUILDER_POLLS.labels(result="changed" if differs else "unchanged").inc()
        current = answer or self._last
        if current is None:
            raise PollError("the first answer was 304")
        if not current.complete and (self._last is None or self._last.complete):
            log.warning("the builder's answer has entries that cannot be read: nothing is pruned by it")
        written = self._bring(current)
        written |= self._prune(current, confirmed=self._candidates if answer is not None else set())
        self._last = current
        self._remember(current)
        if any(self._retries.waits(name, "Delete") is None for name in self._candidates):
            return _CONFIRM_AFTER_S
        elapsed_s = time.monotonic() - started
        pause_s = self._pause(elapsed_s, written=written, asked_anew=differs or confirming)
        return max(0.0, _LEAST_PAUSE_S - elapsed_s, min(pause_s, self._retries.due_in_s()))

    def _pause(self, elapsed_s: float, *, written: bool, asked_anew: bool) -> float:
        """Seconds until the next poll, by what came of one that took `elapsed_s`."""
        if not (written or asked_anew):
            # A builder that was asked to hold its answer and did not is not asked more often than once an interval.
            self._pause_s = _LEAST_PAUSE_S
            return self._interval_s - elapsed_s
        longest_s = min(_LONGEST_HURRY_S, self._interval_s) if written else self._interval_s
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, longest_s) if elapsed_s < pause_s else _LEAST_PAUSE_S
        return pause_s - elapsed_s

    def _bring(self, answer: Answer) -> bool:
        """Write what differs; whether something was written."""
        written = False
        refused = dict(answer.unusable)
        for environment_id, spec in answer.graphs.items():
            if self._stopping.is_set():
                break
            name = names.graph_name(environment_id)
            why = self._retries.waits(name, self._identity(name, spec)) if name in self._retries else None
            if why is None:
                try:
                    written |= self._bring_one(environment_id, spec, answer)
                    self._retries.forget(name)
                    self._told.pop(name, None)
                except GraphWriteError as error:
                    why = str(error)
                    self._take_failure(environment_id, spec, error)
            if why is not None:
                refused[environment_id] = why
        self.refused = refused
        return written

    def _bring_one(self, environment_id: str, spec: Spec, answer: Answer) -> bool:
        span = tracer.start_span("sync APIGraph", context=parent(answer.traceparents.get(environment_id)))
        span.set_attribute("turbo.environment", environment_id)
        reason = f"build {spec.get('buildId')}"
        with self._writes.underway(), trace.use_span(span, record_exception=False):
            try:
                verb, obj = self._writes.upsert(
                    spec,
                    source="builder",
                    reason=reason,
                    traceparent=current_traceparent(),
                    builder_store=answer.store,
                )
            except GraphWriteError as error:
                span.set_status(trace.StatusCode.ERROR, str(error))
                if error.result is not None:
                    span.end()
                raise
            if verb is None:
                return False  # the span of a graph that is as it was is never ended: it is nobody's business
            span.end()
        self._tell(obj, "Normal", "Synced", f"the builder's graph of {reason}")
        return True

    def _take_failure(self, environment_id: str, spec: Spec, error: GraphWriteError) -> None:
        name = names.graph_name(environment_id)
        # What is being deleted passes by itself; what stands in the way otherwise is looked at with each poll.
        ended = Result("conflict") if error.code == "being_deleted" else error.result
        if ended is not None:
            self._retries.failed(name, self._identity(name, spec), ended, str(error))
        else:
            self._retries.forget(name)
        if error.result is None and error.code != "stopping" and self._told.get(name) != str(error):
            self._told[name] = str(error)
            verb: Verb = "Conflict" if error.code == "conflict" else "Refuse"
            action = Action(verb, names.GRAPH_KIND, name, "", str(error))
            self._actions.record(environment_id, action, "skipped", http_status=error.status)

    def _identity(self, name: str, spec: Spec) -> str:
        """What makes a write another one, which does not wait for the failure of the one before."""
        present: dict[str, Any] = (self._graphs.get(name) or {}).get("metadata") or {}
        bound = [present.get(key) for key in ("uid", "generation", "deletionTimestamp", "labels")]
        return digest([spec, bound])

    def _prune(self, answer: Answer, *, confirmed: set[str]) -> bool:
        """Delete what two answers in a row lacked; remember what one did. Whether something was deleted."""
        gone = prunable(self._graphs.all(), answer, self._seen)
        written = False
        for name in sorted(gone & confirmed):
            obj = self._graphs.get(name)
            if obj is None or self._retries.waits(name, "Delete") is not None:
                continue
            if self._stopping.is_set():
                break
            try:
                self._writes.remove(obj, environment_of(obj), "the builder no longer has the graph")
            except GraphWriteError as error:
                if error.result is not None:
                    self._retries.failed(name, "Delete", error.result, str(error))
                continue
            written = True
            self._retries.forget(name)
            gone.discard(name)
        self._candidates = gone
        return written

    def _remember(self, answer: Answer) -> None:
        """Which answer had which graph; what is neither there nor here any more is forgotten."""
        served = {names.graph_name(environment_id) for environment_id in answer.graphs}
        known = served | {obj["metadata"]["name"] for obj in self._graphs.all()}
        self._seen = {name: etag for name, etag in self._seen.items() if name in known}
        self._seen |= dict.fromkeys(served, answer.etag)
        self._told = {name: told for name, told in self._told.items() if name in served}
        self._retries.keep(served | self._candidates)

    def _failed(self, why: str) -> float:
        self._failures += 1
        self._candidates = set()
        metrics.BUILDER_POLLS.labels(result="failed").inc()
        level = logging.WARNING if self._failures == 1 or self._failures % 20 == 0 else logging.DEBUG
        log.log(level, "poll %d of the builder failed: %s", self._failures, why)
        delay: float = min(_FIRST_RETRY_S * 2 ** min(self._failures - 1, 10), max(self._interval_s, _FIRST_RETRY_S))
        return delay
