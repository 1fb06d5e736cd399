"""Every source of a run on one clock: stages, steps, pods, events, operator actions, spans, requests, screenshots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base import clock
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.pods import Pod
from k8s_e2e.diagnosis.verdict import DERIVED_STAGES, told
from k8s_e2e.diagnosis.writes import became
from k8s_e2e.model.results import StepResult
from k8s_e2e.model.story import Timeline, TimelineItem
from k8s_e2e.report.spans import spans

LANES = ("stages", "steps", "pods", "actions", "events", "requests", "spans", "screenshots")
MOST = {"spans": 4000, "events": 3000, "requests": 2000, "actions": 2000}
"""How many items of a lane are kept: the first ones, of spans the longest."""

_STATUS = {"passed": "ok", "failed": "failed", "interrupted": "failed", "skipped": ""}
_BECAME = {"written": "ok", "failed": "failed", "unknown": "failed", "withheld": "warning", "skipped": ""}
_HTTP_ERROR = 400


def timeline(facts: Facts) -> Timeline:
    """Return the timeline of a run; its epoch is the earliest moment known."""
    absolute = [item for source in _SOURCES for item in source(facts)]
    if not absolute:
        return Timeline()
    epoch = min(item.start_s for item in absolute)
    end = max(item.end_s or item.start_s for item in absolute)
    items, left_out = _capped(absolute)
    placed = [_placed(item, epoch, end) for item in items]
    placed.sort(
        key=lambda item: (item.start_s, LANES.index(item.lane) if item.lane in LANES else 99, item.title, item.ref)
    )
    return Timeline(epoch=clock.rfc3339(epoch), items=placed, left_out=left_out)


def seconds(time: str) -> float | None:
    """Return an RFC 3339 time as epoch seconds, None where it is none."""
    try:
        return clock.epoch(time) if time else None
    except ValueError:
        return None


def _placed(item: TimelineItem, epoch: float, end: float) -> TimelineItem:
    stop = None if item.end_s is None else round(max(0.0, min(item.end_s, end) - epoch), 6)
    return msgspec.structs.replace(item, start_s=round(item.start_s - epoch, 6), end_s=stop)


def _capped(items: list[TimelineItem]) -> tuple[list[TimelineItem], dict[str, int]]:
    by_lane: dict[str, list[TimelineItem]] = {}
    for item in items:
        by_lane.setdefault(item.lane, []).append(item)
    kept: list[TimelineItem] = []
    left_out: dict[str, int] = {}
    for lane, members in sorted(by_lane.items()):
        most = MOST.get(lane, 1000)
        if len(members) > most:
            left_out[lane] = len(members) - most
            if lane == "spans":
                members.sort(key=lambda item: (item.start_s - (item.end_s or item.start_s), item.start_s, item.ref))
            else:
                members.sort(key=lambda item: (item.status != "failed", item.start_s, item.ref))
        kept += members[:most]
    return kept, left_out


def _stages(facts: Facts) -> Iterator[TimelineItem]:
    for stage in facts.observed.record.stages:
        start = seconds(stage.started)
        if start is not None and stage.name not in DERIVED_STAGES:
            yield TimelineItem(
                lane="stages", row=stage.name, title=stage.name, start_s=start, end_s=start + stage.duration_s,
                status=_STATUS[stage.status], detail=one_line(stage.error), ref=f"run.json#{stage.name}",
            )  # fmt: skip


def _steps(facts: Facts) -> Iterator[TimelineItem]:
    for scenario in facts.observed.results.scenarios:
        for step in [*scenario.steps, *scenario.cleanup]:
            start = seconds(step.started)
            if start is not None and step.status != "skipped":
                yield _step(step, start)


def _step(step: StepResult, start: float) -> TimelineItem:
    return TimelineItem(
        lane="steps", row=step.id, title=one_line(f"{step.id} {step.name}", 120), start_s=start,
        end_s=start + step.duration_s, status=_STATUS[step.status], detail=one_line(told(step.message), 200),
        ref=f"k8s-e2e-results.json#{step.id}",
    )  # fmt: skip


def _pods(facts: Facts) -> Iterator[TimelineItem]:
    horizon = _horizon(facts)
    for pod in facts.pods:
        yield from _pod(pod, horizon)


def _horizon(facts: Facts) -> float | None:
    """When nobody looked any more: the end of the last stage that observes, or the last revision seen."""
    ends = [seconds(stage.started) or 0.0 for stage in facts.observed.record.stages if stage.name not in DERIVED_STAGES]
    seen = [seconds(row.value.seen) or 0.0 for row in facts.observed.history]
    return max([*ends, *seen], default=None)


def _pod(pod: Pod, horizon: float | None) -> Iterator[TimelineItem]:
    created = seconds(pod.created)
    if created is None:
        return
    end = seconds(pod.deleted) or max(horizon or created, created)
    yield from _stretches(pod, created, end)
    for word, moment in (("scheduled", pod.scheduled), ("deleted", pod.deleted)):
        time = seconds(moment)
        if time is not None:
            yield _stretch(pod, word, max(time, created), None, "")
    for container in pod.containers:
        for one in container.exits:
            time = seconds(one.finished)
            if time is not None and not one.stopping and one.code != 0:
                yield _stretch(pod, f"{container.name} exited with {one.code}", time, None, "failed", one.pointer)


def _stretches(pod: Pod, created: float, end: float) -> Iterator[TimelineItem]:
    at, word, status = created, "starting", ""
    for since, until in pod.ready:
        ready, unready = seconds(since), seconds(until) if until else end
        if ready is None or unready is None:
            continue
        if ready > at:
            yield _stretch(pod, word, at, ready, status)
        yield _stretch(pod, "ready", ready, max(ready, unready), "ok")
        at, word, status = unready, "not ready", "warning"
    if at < end:
        word, status = ("stopping", "") if pod.deleted_in_order else ("not ready", "failed")
        yield _stretch(pod, word, at, end, status)


def _stretch(pod: Pod, word: str, start: float, end: float | None, status: str, ref: str = "") -> TimelineItem:
    return TimelineItem(
        lane="pods", row=pod.name, title=f"{pod.name}: {word}", start_s=start, end_s=end, status=status,
        detail=one_line(pod.problem, 200) if status == "failed" else "", ref=ref or pod.tracked.pointer,
    )  # fmt: skip


def _events(facts: Facts) -> Iterator[TimelineItem]:
    for line, event in facts.observed.events:
        start = seconds(event.time) or seconds(event.seen)
        if start is not None:
            yield TimelineItem(
                lane="events", row="warnings" if event.type == "Warning" else "events",
                title=one_line(f"{event.reason} {event.kind}/{event.object}", 120), start_s=start,
                status="warning" if event.type == "Warning" else "", detail=one_line(event.message, 200),
                ref=f"k8s/events.jsonl#L{line}",
            )  # fmt: skip


def _actions(facts: Facts) -> Iterator[TimelineItem]:
    for number, action in enumerate(facts.observed.actions.actions):
        end = seconds(action.time)
        if end is not None:
            yield TimelineItem(
                lane="actions", row=action.resource_kind, start_s=end - action.duration_ms / 1000, end_s=end,
                title=one_line(f"{action.action} {action.resource_kind}/{action.resource_name}", 120),
                status=_BECAME[became(action)], detail=one_line(action.reason, 200),
                ref=f"k8s/operator-actions.json#{number}",
            )  # fmt: skip


def _requests(facts: Facts) -> Iterator[TimelineItem]:
    for line, request in facts.observed.requests:
        start = seconds(request.time)
        if start is not None:
            bad = request.status == 0 or request.status >= _HTTP_ERROR
            yield TimelineItem(
                lane="requests", row=request.service, start_s=start, end_s=start + request.duration_s,
                title=one_line(f"{request.method} {request.url} -> {request.status or 'no answer'}", 160),
                status="warning" if bad else "", detail=one_line(request.error, 200), ref=f"requests.jsonl#L{line}",
            )  # fmt: skip


def _spans(facts: Facts) -> Iterator[TimelineItem]:
    for one in spans(facts.observed):
        yield TimelineItem(
            lane="spans", row=one.service, title=one_line(f"{one.service} {one.operation}", 120), start_s=one.start_s,
            end_s=one.start_s + one.duration_s, status="failed" if one.error else "",
            ref=f"traces.json#{one.trace_id}/{one.span_id}",
        )  # fmt: skip


def _screenshots(facts: Facts) -> Iterator[TimelineItem]:
    for path in sorted(facts.observed.run.screenshots.glob("*.json")):
        about = screenshot_about(path)
        start = seconds(str(about.get("time", "")))
        if start is not None:
            yield TimelineItem(
                lane="screenshots", row="", title=one_line(f"{path.stem} {about.get('url', '')}", 160), start_s=start,
                ref=f"screenshots/{path.stem}.png",
            )  # fmt: skip


def screenshot_about(path: Path) -> dict[str, Any]:
    """Return what stands beside a screenshot (url, time, step), `{}` where nothing readable does."""
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


_SOURCES = (_stages, _steps, _pods, _actions, _events, _requests, _spans, _screenshots)
