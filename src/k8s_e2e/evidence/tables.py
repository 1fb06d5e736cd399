"""The API server's own tables (``as=Table``) as text, the way kubectl prints them."""

from typing import Any


def render(title: str, table: dict[str, Any], *, namespaced: bool = True) -> str:
    """Write one table under its title, all of its columns; the empty string where it has no rows.

    ``table`` is a ``meta.k8s.io/v1`` Table: ``columnDefinitions`` (name) and ``rows`` (cells).
    """
    rows = table.get("rows") or []
    if not rows:
        return ""
    header = [str(column.get("name", "")).upper() for column in table.get("columnDefinitions") or []]
    cells = [header, *([_cell(value) for value in row.get("cells") or []] for row in rows)]
    width = max(len(row) for row in cells)
    cells = [row + [""] * (width - len(row)) for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(width)]
    lines = ["   ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells]
    scope = "" if namespaced else " (cluster-scoped)"
    return "\n".join([f"==> {title}{scope}: {len(rows)} <==", *lines, ""])


def _cell(value: Any) -> str:
    if value is None:
        return "<none>"
    return " ".join(str(value).split())
