"""Rows to DataFrames with fixed columns: the same columns and types whether there are rows or none."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k8s_e2e.report.timeline import seconds

if TYPE_CHECKING:
    import pandas as pd

_TIME, _NUMBER, _WHOLE, _FLAG = "datetime64[us, UTC]", "float64", "int64", "bool"

COLUMNS: dict[str, dict[str, str]] = {
    "stages": {"name": "", "status": "", "started": _TIME, "ended": _TIME, "duration_s": _NUMBER, "exit_code": _WHOLE,
               "error": "", "hint": ""},
    "steps": {"id": "", "scenario": "", "name": "", "kind": "", "status": "", "started": _TIME, "ended": _TIME,
              "duration_s": _NUMBER, "message": "", "attempts": _WHOLE, "cleanup": _FLAG, "trace_ids": ""},
    "events": {"time": _TIME, "seen": _TIME, "type": "", "reason": "", "kind": "", "object": "", "message": "",
               "count": _WHOLE, "evidence": ""},
    "pods": {"name": "", "controller": "", "node": "", "phase": "", "created": _TIME, "scheduled": _TIME,
             "ready": _TIME, "deleted": _TIME, "is_ready": _FLAG, "restarts": _WHOLE, "images": "", "problem": ""},
    "actions": {"time": _TIME, "action": "", "kind": "", "name": "", "environment_id": "", "outcome": "",
                "http_status": _WHOLE, "duration_s": _NUMBER, "fields": "", "reason": "", "trace_id": "",
                "span_id": "", "seq": _WHOLE, "pod": ""},
    "spans": {"trace_id": "", "span_id": "", "parent_id": "", "service": "", "operation": "", "started": _TIME,
              "ended": _TIME, "duration_s": _NUMBER, "error": _FLAG, "step": ""},
    "logs": {"time": _TIME, "pod": "", "container": "", "previous": _FLAG, "level": "", "message": "", "evidence": ""},
    "requests": {"time": _TIME, "step": "", "service": "", "method": "", "url": "", "status": _WHOLE,
                 "duration_s": _NUMBER, "error": "", "trace_id": "", "evidence": ""},
    "findings": {"id": "", "severity": "", "fault": "", "title": "", "object": "", "time": _TIME, "step": "",
                 "because": "", "evidence": "", "next_command": "", "fix": ""},
}  # fmt: skip


def frame(name: str, rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    """Return ``rows`` with the columns and types of table ``name``; columns without a type hold Python values."""
    import pandas as pd  # noqa: PLC0415 - costs half a second, and only people with a notebook need it

    types = COLUMNS[name]
    columns = {}
    for column, kind in types.items():
        values = [row[column] for row in rows]
        columns[column] = pd.Series(values, dtype=kind or "object")
    return pd.DataFrame(columns)


def moment(time: str, after_s: float = 0.0) -> datetime | None:
    """Return an RFC 3339 time (plus ``after_s``) as an aware datetime, None where it is none."""
    epoch = seconds(time)
    return None if epoch is None else at(epoch + after_s)


def at(epoch_s: float) -> datetime:
    """Return epoch seconds as an aware datetime."""
    return datetime.fromtimestamp(epoch_s, UTC)
