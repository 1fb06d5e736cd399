"""The timeline as a picture: lanes on one clock. Imported only when something is drawn: matplotlib costs a second."""

import functools
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from k8s_e2e.base.text import one_line
from k8s_e2e.model.story import Timeline, TimelineItem
from k8s_e2e.report.timeline_text import opens_s, span_s

_COLOURS = {"ok": "#2f7d4f", "failed": "#b3261e", "warning": "#b26a00", "": "#5b6b8c"}
_HATCH = {"failed": "xxx", "warning": "//"}
_MARKERS = {"ok": "o", "failed": "X", "warning": "^", "": "|"}
_ORDER = ("stages", "steps", "pods", "actions", "events", "requests", "spans", "screenshots")
_ROWS_MOST = {"steps": 80, "pods": 40}  # rows of a lane; other lanes have few
_OTHERS_MOST = 16
_LABEL = 72  # letters of a row's name
_RUN_ID = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b")  # in names made for one run: says nothing inside that run
_FONT = "DejaVu Sans"  # comes with matplotlib: the same picture everywhere
_STYLE: dict[Any, Any] = {"font.family": _FONT, "font.size": 8, "hatch.linewidth": 0.6, "text.parse_math": False}
_ROW_IN = 0.21  # inches a row
_DPI = 110
_LETTERS_S = 0.011  # share of the width that one letter of a bar's title takes


class TimelineFigure(Figure):
    """A matplotlib figure that notebooks show although pyplot was never imported."""

    def png(self) -> bytes:
        """Return it as PNG bytes, without dates or versions inside."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def png(timeline: Timeline, *, title: str = "") -> bytes:
    """Return the timeline as PNG bytes, the same for the same timeline."""
    return figure(timeline, title=title).png()


def figure(timeline: Timeline, *, title: str = "") -> TimelineFigure:
    """Draw the timeline: one row per stage, step and pod, one per kind of anything else.

    Colour is never the only signal: failures are hatched or crosses, warnings striped or triangles.
    """
    rows = list(_rows(timeline))
    with mpl.rc_context(_STYLE):
        drawn = TimelineFigure(figsize=(16, max(2.4, 1.2 + _ROW_IN * len(rows))), layout="constrained")
        FigureCanvasAgg(drawn)
        axes = drawn.add_subplot()
        _draw(axes, rows, opens_s(timeline), max(span_s(timeline), 0.001))
        head = title or "Timeline"
        axes.set_title(f"{_drawable(head, 120)} — second 0 is {timeline.epoch or 'unknown'}", loc="left", fontsize=9)
    return drawn


@functools.cache
def _glyphs() -> frozenset[int]:
    """Code points that the font can draw."""
    return frozenset(font_manager.get_font(font_manager.findfont(_FONT)).get_charmap())


def _drawable(text: str, limit: int) -> str:
    """Return ``text`` on one short line, ``?`` for letters that the font lacks."""
    line = one_line(text, 400)
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return "".join(letter if ord(letter) in _glyphs() else "?" for letter in line)


def _rows(timeline: Timeline) -> Iterator[tuple[str, str, list[TimelineItem]]]:
    """Yield lane, label and items of each row, lanes in a fixed order, unknown ones last."""
    lanes: dict[str, dict[str, list[TimelineItem]]] = {}
    for item in timeline.items:
        lanes.setdefault(item.lane, {}).setdefault(item.row, []).append(item)
    for lane in sorted(lanes, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        rows = lanes[lane]
        if lane == "stages":
            yield lane, "stages", [item for items in rows.values() for item in items]
            continue
        most = _ROWS_MOST.get(lane, _OTHERS_MOST)
        names = list(rows)
        if len(names) > most:
            names = sorted(names, key=lambda name: _weight(rows[name]))[:most]
            names = [name for name in rows if name in names]
        for name in names:
            label = rows[name][0].title if lane == "steps" else f"{lane}: {name}" if name else lane
            yield lane, label, rows[name]
        if len(rows) > len(names):
            yield lane, f"({len(rows) - len(names)} more {lane} in timeline.json)", []


def _weight(items: list[TimelineItem]) -> tuple[bool, float]:
    """Rows that failed first, then the longest."""
    return not any(item.status == "failed" for item in items), -sum(_took(item) for item in items)


def _draw(axes: Axes, rows: list[tuple[str, str, list[TimelineItem]]], begin: float, end: float) -> None:
    wide = end - begin
    _separators(axes, [lane for lane, _, _ in rows])
    for number, (lane, _, items) in enumerate(rows):
        _bars(axes, number, lane, [item for item in items if item.end_s is not None], begin, wide)
    _moments(axes, [(number, item) for number, row in enumerate(rows) for item in row[2] if item.end_s is None])
    for item in [item for lane, _, items in rows if lane == "steps" for item in items if item.status == "failed"][:1]:
        axes.axvline(item.end_s or item.start_s, color=_COLOURS["failed"], linestyle=":", linewidth=1.2, zorder=1)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(begin - wide * 0.005, end + wide * 0.01)
    axes.set_yticks(range(len(rows)), [_label(lane, label, items) for lane, label, items in rows])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.xaxis.set_ticks_position("both")
    axes.tick_params(axis="x", labeltop=True)
    axes.grid(visible=True, axis="x", color="#e4e7ec", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _legend(axes)


def _label(lane: str, label: str, items: list[TimelineItem]) -> str:
    """Put a cross before what failed; not before spans and requests, since a refusal may be what was asked for."""
    failed = lane in ("stages", "steps", "pods", "actions") and any(item.status == "failed" for item in items)
    text = _drawable(_RUN_ID.sub("…", label), _LABEL)
    return f"✗ {text}" if failed else text


def _separators(axes: Axes, lanes: list[str]) -> None:
    for number, (above, below) in enumerate(itertools.pairwise(lanes), 1):
        if above != below:
            axes.axhline(number - 0.5, color="#c8cdd6", linewidth=0.8, zorder=1)


def _bars(axes: Axes, number: int, lane: str, items: list[TimelineItem], begin: float, wide: float) -> None:
    """Draw the bars of one row: one collection per status, or thousands of spans would take minutes."""
    height = 0.62 if lane in ("stages", "steps", "pods") else 0.5
    by_status: dict[str, list[TimelineItem]] = {}
    for item in items:
        by_status.setdefault(item.status, []).append(item)
    for status, members in sorted(by_status.items()):
        colour = _COLOURS.get(status, _COLOURS[""])
        faint = lane == "pods" and status in ("ok", "")
        axes.broken_barh(
            [(item.start_s, max(_took(item), wide * 0.0012)) for item in members],
            (number - height / 2, height),
            facecolors=f"{colour}55" if faint else colour,
            edgecolors="white" if status in _HATCH else colour,
            hatch=_HATCH.get(status),
            linewidth=0.4,
            zorder=3,
        )
    for item in items:
        if lane in ("stages", "steps"):
            _words(axes, number, item, lane, begin, wide)


def _words(axes: Axes, number: int, item: TimelineItem, lane: str, begin: float, wide: float) -> None:
    """Write into a bar what it is, where that fits."""
    took, start = _took(item), max(item.start_s, begin)
    seen = item.start_s + took - start
    word = _drawable(item.title, _LABEL) if lane == "stages" else f"{took:.1f} s"
    if seen / wide <= _LETTERS_S * len(word):
        return
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": "white", "zorder": 4}
    if item.status in _HATCH:
        style["bbox"] = {"facecolor": _COLOURS[item.status], "edgecolor": "none", "pad": 1.5}
    axes.text(start + seen / 2, number, word, fontweight="bold", **style)


def _moments(axes: Axes, moments: list[tuple[int, TimelineItem]]) -> None:
    for status, marker in _MARKERS.items():
        chosen = [(item.start_s, number) for number, item in moments if item.status == status]
        if chosen:
            style: dict[str, Any] = {"color": _COLOURS[status], "markersize": 5, "linestyle": "none", "zorder": 5}
            axes.plot([at for at, _ in chosen], [number for _, number in chosen], marker=marker, **style)


def _took(item: TimelineItem) -> float:
    return (item.end_s if item.end_s is not None else item.start_s) - item.start_s


def _legend(axes: Axes) -> None:
    entries: list[Any] = [
        Patch(facecolor=_COLOURS["ok"], label="passed, done"),
        Patch(facecolor=f"{_COLOURS['ok']}55", edgecolor=_COLOURS["ok"], label="pod ready"),
        Patch(facecolor=_COLOURS[""], label="neutral"),
        Patch(facecolor=_COLOURS["failed"], hatch="xxx", edgecolor="white", label="failed"),
        Patch(facecolor=_COLOURS["warning"], hatch="//", edgecolor="white", label="warning"),
        Line2D([], [], marker="X", color=_COLOURS["failed"], linestyle="none", label="failed, at a moment"),
        Line2D([], [], marker="^", color=_COLOURS["warning"], linestyle="none", label="warning, at a moment"),
    ]
    axes.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=7, frameon=False, fontsize=7,
                borderaxespad=2.6)  # fmt: skip
