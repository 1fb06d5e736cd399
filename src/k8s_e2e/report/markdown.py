"""The report as Markdown within a budget of bytes, whatever its text holds.

Text of the run stands in code spans and fences longer than any run of backticks in it, so no table, fence, HTML, link
or mention of it is ever live; GitHub's workflow commands (``::error::`` at the start of a line, ``##[`` anywhere) are
broken by a word joiner, so that printing a report in a job commands nothing.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from k8s_e2e.base.text import defused, lines, one_line
from k8s_e2e.report.model import (
    Block,
    Bullets,
    Code,
    Fold,
    Image,
    Inline,
    Line,
    Link,
    Para,
    Pre,
    Report,
    Section,
    Strong,
)
from k8s_e2e.report.model import Table as TableBlock

BUDGET = 48 * 1024  # bytes of REPORT.md

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!@$])")
_TICKS = re.compile(r"`+")
_SPAN = 1000  # characters of one code span
_CELL = 400  # characters of one table cell


def render(report: Report, *, budget: int = BUDGET, front: bool = True, title: Line = "") -> str:
    """Return ``report`` as Markdown of at most ``budget`` bytes.

    Sections are shed from the last on until it fits, each with a line that names the files which hold the rest; what
    is still too long is cut. ``title`` stands in place of the report's own.
    """
    head = (_front(report) if front else "") + f"# {_line(title or report.headline or report.title)}\n"
    parts = [_section(section) for section in report.sections]
    for index in range(len(parts) - 1, 0, -1):
        if _size(head, parts) <= budget:
            break
        parts[index] = _shed(report.sections[index])
    text = defused(head + "".join(parts))
    raw = text.encode("utf-8", "replace")
    if len(raw) <= budget:
        return text
    note = "\n\n(cut here: the rest is in findings.json and k8s-e2e-results.json)\n"
    return raw[: budget - len(note)].decode("utf-8", "ignore").rpartition("\n")[0] + note


def heading(line: Line, level: int) -> str:
    """Return ``line`` as a heading."""
    return defused(f"{'#' * level} {_line(line)}")


def text_of(blocks: Iterable[Block]) -> str:
    """Return ``blocks`` as Markdown, without anything around them."""
    return defused("\n\n".join(text for block in blocks for text in _block(block) if text))


def span(text: str, limit: int = 300) -> str:
    """Return ``text`` as a code span on one line, ``(empty)`` for nothing."""
    clean = one_line(text, limit)
    if not clean:
        return "(empty)"
    fence = "`" * (max((len(run) for run in _TICKS.findall(clean)), default=0) + 1)
    pad = " " if clean.startswith("`") or clean.endswith("`") else ""
    return f"{fence}{pad}{clean}{pad}{fence}"


def fenced(text: str, *, most: int = 200) -> str:
    """Return ``text`` as a fenced block of at most ``most`` lines."""
    body = lines(text, most=most)
    longest = max((len(run) for line in body for run in _TICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *body, fence])


def _front(report: Report) -> str:
    body = "".join(f"{key}: {json.dumps(value, ensure_ascii=True)}\n" for key, value in report.front.items())
    return f"---\n{body}---\n"


def _size(head: str, parts: list[str]) -> int:
    return len(defused(head + "".join(parts)).encode("utf-8", "replace"))


def _section(section: Section) -> str:
    body = "\n\n".join(text for block in section.blocks for text in _block(block) if text)
    return f"\n## {section.number}. {_text(section.title)}\n\n{body or 'Nothing to show.'}\n"


def _shed(section: Section) -> str:
    where = ", ".join(span(path) for path in section.rest) or "`REPORT.html`"
    return f"\n## {section.number}. {_text(section.title)}\n\nLeft out to keep this file short: see {where}.\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Para(line):
            yield _line(line)
        case Bullets(items):
            yield "\n".join(_bullets(items))
        case TableBlock():
            yield from _table(block)
        case Pre(text, title):
            if title:
                yield _line(title)
            yield fenced(text)
        case Image(path, caption):
            yield f"![{_text(caption)}]({_target(path)})"
        case Fold(title, blocks, only_html):
            if not only_html:
                yield f"<details><summary>{html.escape(one_line(title), quote=False)}</summary>"
                for inner in blocks:
                    yield from _block(inner)
                yield "</details>"


def _bullets(items: tuple[Line | list[Line], ...]) -> Iterator[str]:
    for item in items:
        if isinstance(item, list):
            yield from (f"  {number}. {_line(line)}" for number, line in enumerate(item, 1))
        else:
            yield f"- {_line(item)}"


def _table(block: TableBlock) -> Iterator[str]:
    if block.title:
        yield f"**{_text(block.title)}**"
    if block.rows:
        head = [_row(block.columns), "|" + " --- |" * len(block.columns)]
        yield "\n".join([*head, *(_row(row) for row in block.rows)])
    if block.more:
        yield _line(block.more)


def _row(cells: tuple[Line, ...]) -> str:
    return "| " + " | ".join(_line(cell, in_table=True) for cell in cells) + " |"


def _line(line: Line, *, in_table: bool = False) -> str:
    parts = line if isinstance(line, tuple) else (line,)
    return "".join(_inline(part, in_table=in_table) for part in parts)


def _inline(part: Inline, *, in_table: bool = False) -> str:
    match part:
        case Code(text):
            shown = span(text, _CELL if in_table else _SPAN)
            return shown.replace("|", "\\|") if in_table else shown
        case Link(target, text):
            return f"[{_text(text or target)}]({_target(target)})"
        case Strong(text):
            return f"**{_text(text)}**"
        case _:
            return _text(part)


def _text(text: str) -> str:
    lead, _, rest = text.partition(text.strip()) if text.strip() else (text, "", "")
    return lead + _SPECIAL.sub(r"\\\1", one_line(text, 2000)) + rest


def _target(path: str) -> str:
    return quote(path, safe="/#.:-_~")
