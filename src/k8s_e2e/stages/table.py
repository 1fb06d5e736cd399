"""A table that notebooks show: Markdown for agents, HTML for people, without a data-frame library."""

import html
import re
from collections.abc import Sequence
from typing import Any

from k8s_e2e.base.text import plain
from k8s_e2e.report.markdown import span

_WORDS = re.compile(r"[A-Za-z0-9 -]*|\d+\.\d+")  # what needs no code span, so that numbers and statuses read as such
_WIDTH = 2000  # characters of a cell


class Table:
    """Rows of plain values under ``columns``; cells are text of the run: shown, never rendered."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
        self.columns = list(columns)
        self.rows = [[_text(cell) for cell in row] for row in rows]
        self.title = title

    def _repr_markdown_(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(_shown(cell) for cell in cells) + " |"

        if not self.rows:
            return f"**{self.title or 'Table'}**: none\n"
        head = [line(self.columns), "|" + " --- |" * len(self.columns)]
        lines = ([f"**{self.title}**", ""] if self.title else []) + head + [line(row) for row in self.rows]
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        if not self.rows:
            return f"<p><b>{html.escape(self.title or 'Table')}</b>: none</p>"
        body = "".join(row("td", cells) for cells in self.rows)
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead>{row('th', self.columns)}</thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        return self._repr_markdown_()


def _text(value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.2f}"
    return " ".join(plain(str("" if value is None else value)).split())


def _shown(cell: str) -> str:
    return cell if _WORDS.fullmatch(cell) else span(cell, _WIDTH).replace("|", "\\|")
