"""The timeline in Chrome's trace-event JSON, which Perfetto opens.

Source of the format: "Trace Event Format" (events ``X`` complete, ``i`` instant, ``M`` metadata; microseconds).
"""

from typing import Any

from k8s_e2e.base.text import one_line
from k8s_e2e.model.story import Timeline, TimelineItem
from k8s_e2e.report.timeline import LANES


def perfetto(timeline: Timeline) -> dict[str, Any]:
    """Return the whole timeline: a process per lane, a thread per row."""
    lanes = sorted({item.lane for item in timeline.items}, key=lambda lane: (lane not in LANES, _place(lane), lane))
    pids = {lane: number for number, lane in enumerate(lanes, 1)}
    rows: dict[tuple[str, str], int] = {}
    events: list[dict[str, Any]] = [_meta("process_name", pid, 0, lane) for lane, pid in pids.items()]
    for item in timeline.items:
        key = (item.lane, item.row)
        if key not in rows:
            rows[key] = len(rows) + 1
            events.append(_meta("thread_name", pids[item.lane], rows[key], item.row or item.lane))
        events.append(_event(item, pids[item.lane], rows[key]))
    return {"displayTimeUnit": "ms", "otherData": {"epoch": timeline.epoch}, "traceEvents": events}


def _place(lane: str) -> int:
    return LANES.index(lane) if lane in LANES else len(LANES)


def _meta(name: str, pid: int, tid: int, value: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": {"name": one_line(value, 120)}}


def _event(item: TimelineItem, pid: int, tid: int) -> dict[str, Any]:
    start = round(item.start_s * 1e6)
    arguments = {"status": item.status, "detail": item.detail, "evidence": item.ref}
    event = {"name": item.title, "cat": item.lane, "pid": pid, "tid": tid, "ts": start, "args": arguments}
    if item.end_s is None:
        return {**event, "ph": "i", "s": "t"}
    return {**event, "ph": "X", "dur": max(1, round(item.end_s * 1e6) - start)}
