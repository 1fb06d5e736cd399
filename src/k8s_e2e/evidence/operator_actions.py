"""``k8s/operator-actions.json``: one row for each finished write of the operator.

Its log lines are authoritative (a line for each finished write, numbered without gaps within one run of the
container); its API fills what the log has lost; numbers that neither has are named as gaps.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from k8s_e2e.base import clock
from k8s_e2e.evidence.log_lines import LogLine, Run
from k8s_e2e.model.evidence import Action, Actions

_TIME_FIELDS = ("time", "ts", "timestamp")
_EVENT_FIELDS = ("event", "msg", "message")  # the last two: what structured loggers call the text itself

Key = tuple[str, int, int]  # pod uid, run of the container, seq


def from_logs(lines: Iterable[LogLine], event: str) -> dict[Key, Action]:
    """Read the rows out of the operator's log lines: JSON objects whose `event`, `msg` or `message` is ``event``."""
    found: dict[Key, Action] = {}
    for line in lines:
        if event not in line.text:
            continue
        try:
            fields = msgspec.json.decode(line.text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            continue
        if not isinstance(fields, dict) or event not in (fields.get(name) for name in _EVENT_FIELDS):
            continue
        run = line.run or Run("", "", 0, "")
        row = _row(fields, run, line.time, "log")
        # without a number every line is a row of its own
        found[row.pod_uid, run.number, row.seq or -line.number] = row
    return found


def with_api(rows: dict[Key, Action], reply: Any, run: Run | None) -> dict[Key, Action]:
    """Add what the API (``{"actions": [...]}`` or a list) knows of the present container run and the log has lost."""
    listed = reply.get("actions") if isinstance(reply, dict) else reply
    if not isinstance(listed, list):
        return rows
    merged = dict(rows)
    for fields in listed:
        if not isinstance(fields, dict):
            continue
        row = _row(fields, run or Run("", "", 0, ""), "", "api")
        key = (row.pod_uid, run.number if run else 0, row.seq)
        if row.seq and key not in merged:
            merged[key] = row
    return merged


def finished(rows: dict[Key, Action]) -> Actions:
    """Return the whole file: rows by time, and the numbers that are missing between 1 and the highest of each run."""
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (rows[key].time, key))]
    gaps = []
    numbers: dict[tuple[str, int], set[int]] = {}
    names: dict[tuple[str, int], str] = {}
    for (uid, run, seq), row in rows.items():
        if seq > 0:
            numbers.setdefault((uid, run), set()).add(seq)
            names[uid, run] = row.pod or uid
    for key, seen in sorted(numbers.items()):
        gaps += [f"{names[key]} run {key[1]}: {span}" for span in _missing(seen)]
    return Actions(count=len(ordered), actions=ordered, gaps=gaps)


def _row(fields: dict[str, Any], run: Run, line_time: str, source: Any) -> Action:
    known = {name: fields[name] for name in Action.__struct_fields__ if fields.get(name) is not None}
    told = next((str(fields[name]) for name in _TIME_FIELDS if fields.get(name)), "")
    known |= {"time": _normal(told) or line_time, "source": source}
    known |= {"action": str(fields.get("action", "")), "resource_kind": str(fields.get("resource_kind", ""))}
    known |= {"resource_name": str(fields.get("resource_name", ""))}
    known.setdefault("pod_uid", run.uid)
    known.setdefault("pod", run.pod)
    try:
        return msgspec.convert(known, Action, strict=False)
    except msgspec.ValidationError:  # a field of another type than ours: the row counts, its details do not
        seq = fields.get("seq")
        core = ("time", "source", "action", "resource_kind", "resource_name", "pod_uid", "pod")
        row = msgspec.convert({name: known[name] for name in core}, Action, strict=False)
        row.seq = seq if isinstance(seq, int) else 0
        return row


def _normal(text: str) -> str:
    try:
        return clock.normal(text)
    except ValueError:
        return ""


def _missing(seen: set[int]) -> list[str]:
    """Name the numbers from 1 to the highest that are not in ``seen``, runs of them as ``first-last``."""
    spans = []
    expected = 1
    for number in sorted(seen):
        if number > expected:
            spans.append(str(expected) if number - expected == 1 else f"{expected}-{number - 1}")
        expected = number + 1
    return spans
