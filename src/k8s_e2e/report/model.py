"""The one report model: sections of blocks of inline text, of which every format is a view.

A ``str`` is our own wording, `Code` is text of the run (a name, a message, a value) shown verbatim, `Link` is a file of
the run directory. Views escape all three; nothing here is markup.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Code:
    """Text of the run, shown as it is."""

    text: str


@dataclass(frozen=True)
class Link:
    """A file of the run directory; ``target`` is relative to it."""

    target: str
    text: str = ""


@dataclass(frozen=True)
class Strong:
    """A word that must stand out: a label or a verdict."""

    text: str


Inline = str | Code | Link | Strong
Line = Inline | tuple[Inline, ...]


@dataclass(frozen=True)
class Para:
    """One paragraph."""

    line: Line


@dataclass(frozen=True)
class Bullets:
    """A list; an item that is a list itself is nested below the item before it."""

    items: tuple[Line | list[Line], ...]


@dataclass(frozen=True)
class Table:
    """A table. ``more`` says in one line what was left out, and where it is."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    title: str = ""
    more: Line = ""


@dataclass(frozen=True)
class Pre:
    """Lines shown as they are, in a fixed-width block."""

    text: str
    title: Line = ""


@dataclass(frozen=True)
class Image:
    """A picture of the run directory."""

    path: str
    caption: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are closed at first; ``only_html``: too long for Markdown, which says where they are instead."""

    title: str
    blocks: tuple["Block", ...]
    only_html: bool = False


Block = Para | Bullets | Table | Pre | Image | Fold


@dataclass(frozen=True)
class Section:
    """One numbered section; ``rest`` names the files that hold all of it when it has to be left out."""

    number: int
    title: str
    blocks: tuple[Block, ...]
    rest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The whole story. ``front`` is the machine-readable head; ``title`` one line with the verdict in front.

    ``headline`` is the title with the run's text in code, for views that show inline text in a heading.
    """

    title: str
    verdict: str
    front: dict[str, Any]
    sections: tuple[Section, ...] = field(default_factory=tuple)
    headline: Line = ""


def label(name: str, *line: Inline) -> tuple[Inline, ...]:
    """Return ``**name**: line``."""
    return (Strong(name), ": ", *line)
