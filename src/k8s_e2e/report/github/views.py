"""What GitHub shows: the step summary, and the pull request comment with the verdict and what to do on one screen.

On GitHub text is alive: ``@name`` notifies, ``#1``, commit hashes and addresses become links and cross-references, in
a heading as in a sentence; escaping does not prevent it, code does. So every text of the run stands in code there.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace

from k8s_e2e.base.text import one_line
from k8s_e2e.report import markdown
from k8s_e2e.report.github import shedding
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
    Table,
)

SUMMARY_BUDGET = 900 * 1024  # bytes; a summary over 1 MiB is dropped whole
COMMENT_BUDGET = 60_000  # characters as `shedding.characters` counts them; a comment over 65,536 is refused
MARKER = "<!-- k8s-e2e -->"  # the first line of `pr-comment.md`; what is sent begins with a `stamp` in its place

_COMMENT_UPTO = 5  # the last section of a comment: pods and events
_MARKS = {"passed": "✅", "failed": "❌"}
_OTHER_MARK = "⚠️"  # interrupted, incomplete
_FIRST = (
    "Note",
    "Verdict",
    "Failed",
    "Why",
    "Cause",
    "Fix",
    "Next",
    "Again",
    "Message",
    "Source",
)  # of a run that did not pass
_FIRST_PASSED = ("Stages", "Cluster")
_OF_THE_AUTHOR = ("--provider", "--cluster", "--image-prefix")  # with a value each: where it ran, not what
_FIRST_WIDTH = 300  # characters of one fact on the first screen; the details have all of it
_LIVELY = re.compile(r"[@#]|://|\bwww\.|\bGH-\d|\b[0-9a-f]{7,}\b", re.IGNORECASE)


def step_summary(report: Report) -> str:
    """Return `step-summary.md`: the report without its machine-readable head."""
    return markdown.render(_inert(report), budget=SUMMARY_BUDGET, front=False, title=_title(report))


def comment(report: Report) -> str:
    """Return `pr-comment.md`: verdict, failing step, cause and what to do; everything else is folded."""
    inert = _inert(report)
    first, *others = inert.sections
    blocks = [*_opening(report.verdict, first), *_folds(others)]
    text = "\n\n".join([f"{MARKER}\n{markdown.heading(_title(report), 3)}", markdown.text_of(blocks)]) + "\n"
    return next(shedding.rungs(text, budget=COMMENT_BUDGET, size=shedding.characters))


def _title(report: Report) -> Line:
    word, _, what = report.title.partition(": ")
    mark = _MARKS.get(report.verdict, _OTHER_MARK)
    return (f"{mark} {word}: ", _inline(what) if report.verdict == "passed" else Code(what))


def _opening(verdict: str, section: Section) -> Iterator[Block]:
    """Tell the first section anew: what a reviewer needs first is open, the rest of it is folded."""
    bullets, *blocks = section.blocks
    assert isinstance(bullets, Bullets)  # the verdict: the one list that every report begins with
    wanted = _FIRST_PASSED if verdict == "passed" else _FIRST
    shown: dict[str, Line] = {}
    rest: list[Line | list[Line]] = []
    for item in bullets.items:
        name = _name(item)
        if name in wanted and name not in shown and not isinstance(item, list):
            shown[name] = item
            if _clipped(item) != item:
                rest.append(item)
        elif verdict != "passed":
            rest.append(item)
    yield Bullets(tuple(_clipped(shown[name]) for name in wanted if name in shown))
    if rest or blocks:
        inner = (Bullets(tuple(rest)), *blocks) if rest else tuple(blocks)
        yield Fold("Details", inner) if verdict != "passed" else Fold("Notes", inner)


def _name(item: Line | list[Line]) -> str:
    """Return what a list item is labelled: "Cause" of "**Cause (fault lies with: ...)**: ..."."""
    label = item[0] if isinstance(item, tuple) else ""
    return label.text.partition(" (")[0] if isinstance(label, Strong) else ""


def _clipped(line: Line) -> Line:
    parts = line if isinstance(line, tuple) else (line,)
    return tuple(Code(one_line(part.text, _FIRST_WIDTH)) if isinstance(part, Code) else part for part in parts)


def _folds(sections: list[Section]) -> Iterator[Block]:
    """Fold each section that has something to show; a table of several failed steps stays open."""
    for section in sections:
        if section.number > _COMMENT_UPTO or all(isinstance(block, Para) for block in section.blocks):
            continue
        blocks = [block for block in section.blocks if not isinstance(block, Fold)]  # every single step: not here
        is_open = [isinstance(block, Table) and _several_failed(block) for block in blocks]
        yield from (block for block, shown in zip(blocks, is_open, strict=True) if shown)
        yield Fold(section.title, tuple(block for block, shown in zip(blocks, is_open, strict=True) if not shown))


def _several_failed(table: Table) -> bool:
    return table.columns[0] == "failed step" and len(table.rows) > 1


def _inert(report: Report) -> Report:
    """Put what GitHub would bring to life into code; name files, as a link into the run directory leads nowhere.

    The picture of the timeline is left out: the section names its file. The command to run it again is told as it
    works for every reader, who has not the author's cluster.
    """
    sections = tuple(replace(one, blocks=tuple(_blocks(one.blocks))) for one in report.sections)
    return replace(report, sections=sections)


def _blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    return (_block(block) for block in blocks if not (isinstance(block, Image) and block.path == "timeline.png"))


def _block(block: Block) -> Block:
    match block:
        case Para(line):
            return Para(_line(line))
        case Bullets(items):
            return Bullets(
                tuple([_line(one) for one in item] if isinstance(item, list) else _fact(item) for item in items)
            )
        case Table():
            rows = tuple(tuple(_line(cell) for cell in row) for row in block.rows)
            return replace(block, rows=rows, more=_line(block.more))
        case Pre(text, title):
            return Pre(text, _line(title))
        case Image(path, caption):
            return Para((Code(path), ": ", Code(caption)))
        case Fold():
            return replace(block, blocks=tuple(_blocks(block.blocks)))


def _fact(item: Line) -> Line:
    if _name(item) == "Again" and isinstance(item, tuple):
        item = tuple(Code(_for_everybody(part.text)) if isinstance(part, Code) else part for part in item)
    return _line(item)


def _for_everybody(command: str) -> str:
    """Return a command of `RunRecord.command` without what names the author's own cluster."""
    words = iter(shlex.split(command))
    kept = []
    for word in words:
        if word in _OF_THE_AUTHOR:
            next(words, None)
        else:
            kept.append(word)
    return shlex.join(kept)


def _line(line: Line) -> Line:
    if isinstance(line, tuple):
        return tuple(_inline(part) for part in line)
    return _inline(line)


def _inline(part: Inline) -> Inline:
    match part:
        case Link():
            return Code(part.target)
        case Strong(text) if _LIVELY.search(text):
            return Code(text)
        case str() if _LIVELY.search(part):
            return Code(part)
        case _:
            return part
