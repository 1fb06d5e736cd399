"""Brings the builder's graphs into APIGraphs: creates, updates, and prunes with care.

The builder is asked with `Prefer: wait`, so a change arrives at once. An APIGraph is pruned only if the builder made
it, and only on proof that the builder deleted it: two well-formed answers in a row that lack it, from the same data
store that held it before. A builder that lost its data is another store and proves nothing; of a builder that does not
name its store, the graph must have been seen in an earlier answer with another ETag. Failed and partial answers
prove nothing.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3
from opentelemetry import trace

from turbo_operator import metrics
from turbo_operator.actions import ActionLog
from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.plan import Action, Verb, being_deleted
from turbo_operator.graphs import ANSWERED, GraphRefusedError, GraphWriter, remove, upsert
from turbo_operator.store import Store
from turbo_operator.telemetry import current_traceparent, parent, tracer, unsampled_headers

_CONNECT_TIMEOUT_S = 3.0
_GRACE_S = 10.0
"""An answer may come this much later than the wait that was asked for."""
_CONFIRM_AFTER_S = 1.0
_FIRST_RETRY_S = 0.8
_LARGEST_ANSWER = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class PollError(Exception):
    """The builder gave no usable answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One well-formed answer of the builder.

    Attributes:
        graphs: Specs by environment id.
        etag: Of the answer; empty if it has none.
        store: The builder's name for its data; None if it does not tell.
        traceparents: W3C trace context by environment id.
        complete: Every entry could be read. Only then does an absence mean anything.
    """

    graphs: Mapping[str, Mapping[str, Any]]
    etag: str = ""
    store: str | None = None
    traceparents: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True


def read_answer(body: bytes, etag: str) -> Answer:
    """The meaning of a 200 answer.

    Raises:
        PollError: it is not of the form `{"graphs": [...]}`.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise PollError(f"the answer is not JSON: {error}") from error
    entries = document.get("graphs") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise PollError("the answer has no list 'graphs'")
    graphs: dict[str, Mapping[str, Any]] = {}
    complete = True
    for entry in entries:
        environment_id = entry.get("environmentId") if isinstance(entry, dict) else None
        if not isinstance(environment_id, str) or not environment_id or environment_id in graphs:
            complete = False
            continue
        graphs[environment_id] = entry
    traceparents = document.get("traceparents")
    store = document.get("store")
    return Answer(
        graphs,
        etag,
        store if isinstance(store, str) and store else None,
        {k: v for k, v in traceparents.items() if isinstance(v, str)} if isinstance(traceparents, dict) else {},
        complete,
    )


def prunable(present: list[Object], answer: Answer, seen: Mapping[str, str]) -> set[str]:
    """Names of the APIGraphs of which `answer` says that the builder deleted them.

    Args:
        present: All APIGraphs.
        answer: What the builder says now.
        seen: ETag of the last answer that had each environment's graph, by name of the APIGraph.
    """
    if not answer.complete:
        return set()
    kept = {names.graph_name(environment_id) for environment_id in answer.graphs}
    gone = set()
    for obj in present:
        metadata = obj["metadata"]
        name = metadata["name"]
        if (metadata.get("labels") or {}).get(names.LABEL_SOURCE) != "builder" or name in kept or being_deleted(obj):
            continue
        held_by = (metadata.get("annotations") or {}).get(names.ANNOTATION_STORE)
        if answer.store is not None and held_by is not None:
            proven = answer.store == held_by
        else:
            proven = bool(answer.etag) and seen.get(name, answer.etag) != answer.etag
        if proven:
            gone.add(name)
    return gone


class BuilderSync(threading.Thread):
    """Thread that polls the builder."""

    def __init__(
        self,
        url: str,
        interval_s: float,
        graphs: Store,
        writer: GraphWriter,
        actions: ActionLog,
        stopping: threading.Event,
        *,
        tell: Callable[[Object, str, str, str], None],
    ) -> None:
        super().__init__(name="builder-sync", daemon=True)
        self._url = f"{url}/v1/graphs"
        self._interval_s = interval_s
        self._graphs = graphs
        self._writer = writer
        self._actions = actions
        self._stopping = stopping
        self._tell = tell
        self._http = urllib3.PoolManager(retries=False, maxsize=2)
        self._last: Answer | None = None
        self._seen: dict[str, str] = {}
        self._candidates: set[str] = set()
        self._told: dict[str, str] = {}
        self._failures = 0
        self._retry = False
        self.refused: dict[str, str] = {}
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

    def poll(self) -> float:
        """One poll and what follows from it; gives the seconds to wait before the next.

        Raises:
            PollError: no usable answer; nothing was changed.
        """
        started = time.monotonic()
        confirming = bool(self._candidates)
        held = not (confirming or self._retry)
        answer = self._ask(wait=held, full=confirming)
        changed = answer is not None and (self._last is None or answer.graphs != self._last.graphs)
        current = answer or self._last
        metrics.BUILDER_POLLS.labels(result="changed" if changed else "unchanged").inc()
        if current is None:
            raise PollError("the first answer was 304")
        self._retry = self._bring(current)
        self._prune(current, confirmed=self._candidates if answer is not None else set())
        self._last = current
        for environment_id in current.graphs:
            self._seen[names.graph_name(environment_id)] = current.etag
        if self._candidates or self._retry:
            return _CONFIRM_AFTER_S
        # A builder that was asked to hold its answer and did not is not asked more often than once an interval.
        return 0.0 if changed or not held else max(0.0, self._interval_s - (time.monotonic() - started))

    def _ask(self, *, wait: bool, full: bool) -> Answer | None:
        """The builder's answer, None for "as before"; held while that is so if `wait`, never that if `full`."""
        headers = {"Accept": "application/json", **unsampled_headers()}
        held_s = 0
        if self._last is not None and self._last.etag and not full:
            headers["If-None-Match"] = self._last.etag
            held_s = max(1, round(self._interval_s)) if wait else 0
        if held_s:
            headers["Prefer"] = f"wait={held_s}"
        timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=held_s + _GRACE_S)
        try:
            response = self._http.request("GET", self._url, headers=headers, timeout=timeout)
        except urllib3.exceptions.HTTPError as error:
            raise PollError(f"GET {self._url}: {error}") from error
        if response.status == 304:  # noqa: PLR2004 - Not Modified
            return None
        if response.status != 200 or len(response.data) > _LARGEST_ANSWER:  # noqa: PLR2004 - OK
            raise PollError(f"GET {self._url}: {response.status} {response.data[:200].decode(errors='replace')}")
        return read_answer(response.data, response.headers.get("ETag", ""))

    def _bring(self, answer: Answer) -> bool:
        """Write what differs; True if some graph has to be tried again soon."""
        retry = False
        refused: dict[str, str] = {}
        for environment_id, spec in answer.graphs.items():
            span = tracer.start_span("sync APIGraph", context=parent(answer.traceparents.get(environment_id)))
            started = time.perf_counter()
            try:
                with trace.use_span(span):
                    verb, obj = upsert(
                        self._writer,
                        self._graphs,
                        spec,
                        source="builder",
                        traceparent=current_traceparent(),
                        builder_store=answer.store,
                    )
            except GraphRefusedError as error:
                refused[environment_id] = str(error)
                retry |= error.status == 503 or error.code == "being_deleted"  # noqa: PLR2004 - passes by itself
                if self._told.get(environment_id) != str(error):
                    self._told[environment_id] = str(error)
                    verb = "Conflict" if error.code == "conflict" else "Refuse"
                    self._record(verb, environment_id, "skipped", reason=str(error), status=error.status)
                continue
            self._told.pop(environment_id, None)
            if verb:  # the span of a graph that is as it was is never ended: it is nobody's business
                duration_s = time.perf_counter() - started
                reason = f"build {spec.get('buildId')}"
                span.set_attribute("turbo.environment", environment_id)
                with trace.use_span(span, end_on_exit=True):
                    self._record(
                        verb, environment_id, "ok", reason=reason, status=ANSWERED[verb], duration_s=duration_s
                    )
                self._tell(obj, "Normal", "Synced", f"the builder's graph of {reason}")
        self.refused = refused
        return retry

    def _prune(self, answer: Answer, *, confirmed: set[str]) -> None:
        """Delete what two answers in a row lacked; remember what one did."""
        gone = prunable(self._graphs.all(), answer, self._seen)
        for name in sorted(gone & confirmed):
            obj = self._graphs.get(name)
            if obj is None:
                continue
            environment_id = str((obj.get("spec") or {}).get("environmentId") or name)
            started = time.perf_counter()
            try:
                remove(self._writer, self._graphs, obj)
            except GraphRefusedError as error:
                self._record("Delete", environment_id, "failed", reason=str(error), status=error.status)
                continue
            duration_s = time.perf_counter() - started
            reason = "the builder no longer has the graph"
            self._record(
                "Delete", environment_id, "ok", reason=reason, status=ANSWERED["Delete"], duration_s=duration_s
            )
            self._seen.pop(name, None)
            gone.discard(name)
        self._candidates = gone

    def _record(
        self, verb: Verb | str, environment_id: str, outcome: str, *, reason: str, status: int, duration_s: float = 0.0
    ) -> None:
        action = Action(verb, names.GRAPH_KIND, names.graph_name(environment_id), "", reason)  # type: ignore[arg-type]
        self._actions.record(environment_id, action, outcome, http_status=status, duration_s=duration_s)

    def _failed(self, why: str) -> float:
        self._failures += 1
        self._candidates = set()
        metrics.BUILDER_POLLS.labels(result="failed").inc()
        level = logging.WARNING if self._failures == 1 or self._failures % 20 == 0 else logging.DEBUG
        log.log(level, "poll %d of the builder failed: %s", self._failures, why)
        delay: float = min(_FIRST_RETRY_S * 2 ** min(self._failures - 1, 10), max(self._interval_s, _FIRST_RETRY_S))
        return delay
