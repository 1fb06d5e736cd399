"""The report as one HTML file that needs nothing else: no network, no script but its own, light and dark."""

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import msgspec
from markupsafe import Markup

from k8s_e2e.base.text import lines, one_line
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.story import Timeline, TimelineItem
from k8s_e2e.report.model import Image, Report
from k8s_e2e.report.timeline import LANES
from k8s_e2e.report.timeline_text import opens_s, span_s

_TEMPLATES = Path(__file__).with_name("templates")
_EMBEDDED_MOST = 700 * 1024  # bytes of pictures inside the file; further ones are linked
_PRE_MOST = 400  # lines of one block


def html(report: Report, timeline: Timeline, run: RunDir) -> str:
    """Return REPORT.html: everything is inside, pictures up to 700 KiB as data.

    The page's own policy lets nothing run but the script in this package (named by its hash), so that text of the run
    could not act even if it got past the escaping.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        kind=lambda thing: type(thing).__name__,
        parts=lambda line: line if isinstance(line, tuple) else (line,),
        inline=lambda text: one_line(text, 2000),
        inside=_keeping_ends,
        body=lambda text: "\n".join(lines(text, most=_PRE_MOST)),
        target=lambda path: quote(path, safe="/#.-_~"),
    )
    script, style = _source("timeline.js"), _source("report.css")
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        script=Markup(script),  # noqa: S704 - our own file
        style=Markup(style),  # noqa: S704 - our own file
        script_hash=_csp_hash(script),
        style_hash=_csp_hash(style),
        data=Markup(_data(timeline)),  # noqa: S704 - `<`, `>` and `&` are escaped in it
        items=len(timeline.items),
        pictures=_pictures(report, run),
    )


def _keeping_ends(text: str) -> str:
    """One line, but with the space at either end that separates it from its neighbours."""
    inner = one_line(text, 2000)
    return f"{' ' if text[:1].isspace() else ''}{inner}{' ' if text[-1:].isspace() and inner else ''}"


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(timeline: Timeline) -> str:
    """Return the timeline as compact JSON that cannot end a script element."""
    rows: dict[tuple[str, str], int] = {}
    ordered = sorted(
        timeline.items, key=lambda item: (LANES.index(item.lane) if item.lane in LANES else len(LANES), item.lane)
    )
    for item in ordered:
        rows.setdefault((item.lane, item.row if item.lane != "stages" else ""), len(rows))
    labels: dict[int, tuple[str, str]] = {}
    packed: list[list[Any]] = []
    for item in timeline.items:
        row = rows[item.lane, item.row if item.lane != "stages" else ""]
        labels.setdefault(row, (item.lane, _row_label(item)))
        packed.append([row, item.start_s, item.end_s, item.status, item.title, item.detail, item.ref])
    value = {
        "epoch": timeline.epoch,
        "begin": opens_s(timeline),
        "end": span_s(timeline),
        "rows": [labels[number] for number in range(len(rows))],
        "items": packed,
    }
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _row_label(item: TimelineItem) -> str:
    if item.lane == "stages":
        return item.lane
    return item.title if item.lane == "steps" else item.row or item.lane


def _pictures(report: Report, run: RunDir) -> dict[str, str]:
    """Return path -> data URI of the screenshots, smallest number first, while they fit."""
    found: dict[str, str] = {}
    room = _EMBEDDED_MOST
    for section in report.sections:
        for block in section.blocks:
            if not isinstance(block, Image) or block.path == "timeline.png":
                continue
            try:
                raw = run.path(block.path).read_bytes()
            except OSError:
                continue
            if len(raw) <= room:
                room -= len(raw)
                found[block.path] = f"data:image/png;base64,{base64.b64encode(raw).decode()}"
    return found
