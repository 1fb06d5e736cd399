"""Writes statuses to their APIGraphs: only what differs, not too often, again after a failure, short if need be."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turbo_operator import metrics
from turbo_operator.announcements import Tell
from turbo_operator.core.desired import Object
from turbo_operator.core.status import shortened
from turbo_operator.graphs import GraphWriter
from turbo_operator.store import Store

_INTERVAL_S = 0.5
_INTERVAL_PER_COMPONENT_S = 0.015
"""A status request of 300 components took a loaded API server 0.16 s: it must not slow down the writes it tells of.
Phases that end a wait are written at once."""
_FIRST_WITHIN_S = 5.0
"""A new graph that is still worked on has a status after at most that long: an earlier one would tell little, and
costs the API server as much as a dozen writes where there are 100 components."""
_FIRST_RETRY_S = 0.8
_LONGEST_RETRY_S = 10.0
"""A status is news: it is written soon after an outage, whatever the length of it."""
_TOO_LARGE = 413
_WARNING_PHASES = frozenset({"Degraded", "Failed"})
_TOLD_PHASES = frozenset({"Running", "Degraded", "Failed"})

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Written:
    """What was written of one graph: when, what it should say, what the API server made of it; and what failed."""

    at: float = 0.0
    wanted: Mapping[str, Any] = field(default_factory=dict)
    kept: Any = None
    failures: int = 0
    not_before: float = 0.0
    oversized: int | None = None
    """Generation beside which there is no room for a complete status."""


class StatusWriter:
    """Writes statuses; used for one graph by one thread at a time."""

    def __init__(
        self, graphs: Store, writer: GraphWriter, *, tell: Tell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._graphs = graphs
        self._writer = writer
        self._tell = tell
        self._clock = clock
        self._written: dict[str, _Written] = {}

    def forget(self, name: str) -> None:
        """The graph is gone."""
        self._written.pop(name, None)

    def write(self, name: str, obj: Object, computed: dict[str, Any]) -> float | None:
        """Make the status of an APIGraph say `computed`.

        Returns:
            Seconds after which to come again with what is true then; None if there is nothing left to do.
        """
        present = obj.get("status") or {}
        interval_s = max(_INTERVAL_S, _INTERVAL_PER_COMPONENT_S * len(computed["componentStatuses"]))
        written = self._written.get(name)
        if written is None:
            first_at = self._clock() - max(0.0, interval_s - _FIRST_WITHIN_S)
            written = self._written[name] = _Written(at=0.0 if present else first_at)
        if present == computed or (computed == written.wanted and present == written.kept):
            return None  # as it should be; or as the API server keeps it
        wait_s = written.not_before - self._clock()
        if wait_s > 0:
            return wait_s
        phase, before = computed["phase"], present.get("phase")
        wait_s = written.at + interval_s - self._clock()
        if wait_s > 0 and (phase == before or phase not in _TOLD_PHASES):
            return wait_s
        generation = computed["observedGeneration"]
        sent = shortened(computed) if written.oversized == generation else computed
        result = self._writer.write_status(obj, sent)
        if result.http_status == _TOO_LARGE and sent is computed:
            log.warning("the APIGraph %s has no room for its status, which is written in short", name)
            written.oversized = generation
            sent = shortened(computed)
            result = self._writer.write_status(obj, sent)
        metrics.STATUS_WRITES.labels(outcome=result.outcome).inc()
        if result.outcome != "ok":
            backoff_s: float = min(_FIRST_RETRY_S * 2 ** min(written.failures, 10), _LONGEST_RETRY_S)
            retry_s = max(backoff_s, result.retry_after_s or 0.0)
            written.failures += 1
            if result.outcome != "conflict":  # what is there in truth the watch tells, and then it is tried at once
                written.not_before = self._clock() + retry_s
            log.warning("status of %s not written, again in %.1f s: %s", name, retry_s, result.message)
            return retry_s
        answer = result.obj or {}
        written.at, written.wanted, written.kept = self._clock(), computed, answer.get("status")
        written.failures, written.not_before = 0, 0.0
        if written.kept != sent:
            log.warning("the API server does not keep the status of %s as it was written: is the CRD older?", name)
        self._graphs.put(answer)
        if phase != before and phase in _TOLD_PHASES:
            kind = "Warning" if phase in _WARNING_PHASES else "Normal"
            self._tell(obj, kind, phase, _explained(computed))
        return None


def _explained(computed: Mapping[str, Any]) -> str:
    rows = computed["componentStatuses"]
    if computed["phase"] == "Running":
        few = {0: "it has no components", 1: "its component runs"}
        return f"build {computed['buildId']}: {few.get(len(rows), f'all {len(rows)} components run')}"
    degraded = next(c for c in computed["conditions"] if c["type"] == "Degraded")
    return f"build {computed['buildId']}: {degraded['message']}"
