"""A table that notebooks show: Markdown for agents, HTML for people, without a data-frame library."""

import html
from collections.abc import Sequence
from typing import Any


class Table:
    """Rows of plain values under ``columns``; cells are text and cannot break the table."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
        self.columns = list(columns)
        self.rows = [[_text(cell) for cell in row] for row in rows]
        self.title = title

    def _repr_markdown_(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

        head = [line(self.columns), line(["---"] * len(self.columns))]
        lines = ([f"**{self.title}**", ""] if self.title else []) + head + [line(row) for row in self.rows]
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row("td", cells) for cells in self.rows)
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead>{row('th', self.columns)}</thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        return self._repr_markdown_()


def _text(value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.2f}"
    return " ".join(str("" if value is None else value).split())
