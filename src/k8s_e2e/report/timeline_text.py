"""The timeline in text: a waterfall of few rows for the report, and every item in order for `k8s/timeline.txt`."""

from k8s_e2e.base.text import one_line
from k8s_e2e.model.story import Timeline, TimelineItem

_WIDTH = 44  # characters of the bar
_TITLE = 46
_LEAD = 0.1  # share of what happens that is shown of the silence before
_BRIEF_S = 0.25  # what passed in less than this is only in the full list
_MARKS = {"ok": "✓", "failed": "✗", "warning": "!", "": " "}


def waterfall(timeline: Timeline, *, rows: int) -> str:
    """Return at most ``rows`` lines: stages, steps and pods as bars, failed ones first, brief ones left out."""
    begin, end = opens_s(timeline), span_s(timeline)
    candidates = [
        item for item in timeline.items if item.lane in ("stages", "steps", "pods") and item.end_s is not None
    ]
    if not candidates or end <= 0:
        return "nothing with a duration"
    candidates = [
        item for item in candidates if item.lane == "stages" or item.status == "failed" or _took(item) >= _BRIEF_S
    ]
    chosen = sorted(candidates, key=_importance)[: rows - 1]
    chosen.sort(key=lambda item: (item.lane != "stages", item.start_s, item.title))
    head = f"{'':2}{'what':<{_TITLE}} |{f'{begin:.0f} s':<{_WIDTH - 8}}{f'{end:.0f} s':>8}| start +duration"
    lines = [head, *(_row(item, begin, end) for item in chosen)]
    return "\n".join(lines)


def chronology(timeline: Timeline) -> str:
    """Return every item, one a line: offset, duration, lane, status, title, detail, pointer."""
    lines = [f"Second 0 is {timeline.epoch}. Offset (MM:SS.mmm), seconds, lane, status, what happened."]
    for item in timeline.items:
        minutes, rest = divmod(item.start_s, 60)
        took = f"{item.end_s - item.start_s:9.3f}" if item.end_s is not None else f"{'-':>9}"
        detail = f"  ({item.detail})" if item.detail else ""
        where = f"  [{item.ref}]" if item.ref else ""
        mark = _MARKS.get(item.status, " ")
        text = one_line(f"{item.title}{detail}{where}", 500)
        lines.append(f"{int(minutes):02d}:{rest:06.3f}  {took}  {item.lane:<11} {mark}  {text}")
    lines += [f"({count} more of lane {lane} are not shown)" for lane, count in sorted(timeline.left_out.items())]
    return "\n".join(lines) + "\n"


def span_s(timeline: Timeline) -> float:
    """Return the seconds from the epoch to the last moment."""
    return max((item.end_s if item.end_s is not None else item.start_s for item in timeline.items), default=0.0)


def opens_s(timeline: Timeline) -> float:
    """Return the second at which a picture begins: 0, but shortly before the first happening after a long silence.

    A first run builds its binaries and images for minutes in which nothing but the stage itself is going on.
    """
    end = span_s(timeline)
    first = min((item.start_s for item in timeline.items if item.lane != "stages"), default=0.0)
    return max(0.0, first - max((end - first) * _LEAD, 1.0)) if first > end / 2 else 0.0


def _took(item: TimelineItem) -> float:
    return (item.end_s if item.end_s is not None else item.start_s) - item.start_s


def _importance(item: TimelineItem) -> tuple[bool, bool, bool, float, str]:
    return item.status != "failed", item.lane != "stages", item.lane != "steps", -_took(item), item.title


def _row(item: TimelineItem, begin: float, end: float) -> str:
    took = _took(item)
    start = max(item.start_s, begin)
    first = min(_WIDTH - 1, int((start - begin) / (end - begin) * _WIDTH))
    length = max(1, min(_WIDTH - first, round((item.start_s + took - start) / (end - begin) * _WIDTH)))
    fill = {"failed": "x", "warning": "!"}.get(item.status, "=" if item.lane != "pods" else "-")
    bar = f"{'':{first}}{fill * length}".ljust(_WIDTH)
    title = one_line(item.title, 200)
    title = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
    return f"{_MARKS.get(item.status, ' '):2}{title:<{_TITLE}} |{bar}| {item.start_s:6.1f} +{took:.1f}"
