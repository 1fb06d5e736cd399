"""The action log: one JSON line on stdout for each finished write, and the newest ones over HTTP.

The lines are authoritative: `seq` counts up without gaps within one process, so a missing number is a lost line.
"""

import logging
import threading
import time
from collections import deque
from typing import Any

from opentelemetry import trace

from turbo_operator import metrics
from turbo_operator.core.plan import Action
from turbo_operator.logs import ACTIONS_LOGGER, timestamp

_KEPT = 5000
_MOST_FIELDS = 20

log = logging.getLogger(ACTIONS_LOGGER)

Record = dict[str, Any]


class ActionLog:
    """Numbers, logs and keeps finished actions. Thread-safe."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._lock = threading.Lock()
        self._records: deque[Record] = deque(maxlen=kept)
        self._seq = 0
        self.started = timestamp(time.time())
        """When the numbers began at 1: another time is another process, whose numbers say nothing of this one's."""

    def record(
        self,
        environment_id: str,
        action: Action,
        outcome: str,
        *,
        http_status: int = 0,
        message: str = "",
        duration_s: float = 0.0,
        span: trace.Span | None = None,
    ) -> Record:
        """Log one finished action.

        Args:
            environment_id: Whose it is.
            action: What was planned.
            outcome: ok, conflict, failed, unknown; or skipped for what was not to be written (Conflict, Refuse).
            http_status: Of the API server's answer, 0 without one.
            message: What went wrong, added to the reason.
            duration_s: From the first byte sent to the outcome.
            span: The span of the write.
        """
        context = (span or trace.get_current_span()).get_span_context()
        record: Record = {
            "event": "operator.action",
            "seq": 0,
            "environment_id": environment_id,
            "action": action.verb,
            "resource_kind": action.kind,
            "resource_name": action.name,
            "fields": [*action.fields[:_MOST_FIELDS], *(["..."] if len(action.fields) > _MOST_FIELDS else [])],
            "reason": f"{action.reason}; {message}" if message else action.reason,
            "outcome": outcome,
            "http_status": http_status,
            "duration_ms": round(duration_s * 1000, 3),
            "trace_id": trace.format_trace_id(context.trace_id) if context.is_valid else "",
            "span_id": trace.format_span_id(context.span_id) if context.is_valid else "",
        }
        metrics.ACTIONS.labels(action=action.verb, kind=action.kind, outcome=outcome).inc()
        level = logging.INFO if outcome in {"ok", "skipped"} else logging.WARNING
        with self._lock:  # numbers and lines in the same order
            self._seq += 1
            record["seq"] = self._seq
            log.log(level, "%s %s %s: %s", action.verb, action.kind, action.name, outcome, extra=record)
            self._records.append({"time": timestamp(time.time()), **record})
        return record

    def since(self, seq: int, environment_id: str | None = None) -> list[Record]:
        """The kept records after number `seq`, oldest first, of one environment or of all."""
        with self._lock:
            records = list(self._records)
        return [
            record
            for record in records
            if record["seq"] > seq and (environment_id is None or record["environment_id"] == environment_id)
        ]

    @property
    def newest(self) -> int:
        """The number of the newest record, 0 before the first."""
        return self._seq

    @property
    def oldest(self) -> int:
        """The number of the oldest record that is kept, 0 before the first."""
        with self._lock:
            return self._records[0]["seq"] if self._records else 0
