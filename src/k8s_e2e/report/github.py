"""What GitHub shows: the step summary and the pull request comment, each within GitHub's own limits."""

from dataclasses import replace

from k8s_e2e.report import markdown
from k8s_e2e.report.model import Block, Bullets, Code, Fold, Image, Inline, Line, Link, Para, Report, Table

SUMMARY_BUDGET = 900 * 1024  # bytes; a summary over 1 MiB is dropped whole
COMMENT_BUDGET = 60_000  # characters; a comment over 65,536 is refused
MARKER = "k8s-e2e"  # by this hidden comment an earlier one is found and replaced

_COMMENT_UPTO = 5  # the last section of a comment: pods and events


def step_summary(report: Report) -> str:
    """Return `step-summary.md`: the report without its machine-readable head."""
    return markdown.render(_unlinked(report), budget=SUMMARY_BUDGET, front=False)


def comment(report: Report) -> str:
    """Return `pr-comment.md`: verdict, results and timeline behind the hidden marker ``<!-- k8s-e2e -->``."""
    return markdown.render(_unlinked(report), budget=COMMENT_BUDGET, front=False, marker=MARKER, upto=_COMMENT_UPTO)


def _unlinked(report: Report) -> Report:
    """Name files instead of linking them: on GitHub's own pages a link into the run directory leads nowhere."""
    sections = tuple(replace(one, blocks=tuple(_block(block) for block in one.blocks)) for one in report.sections)
    return replace(report, sections=sections)


def _block(block: Block) -> Block:
    match block:
        case Para(line):
            return Para(_line(line))
        case Bullets(items):
            return Bullets(
                tuple([_line(one) for one in item] if isinstance(item, list) else _line(item) for item in items)
            )
        case Table():
            rows = tuple(tuple(_line(cell) for cell in row) for row in block.rows)
            return replace(block, rows=rows, more=_line(block.more))
        case Image(path, caption):
            return Para((Code(path), ": ", Code(caption)))
        case Fold():
            return replace(block, blocks=tuple(_block(inner) for inner in block.blocks))
        case _:
            return block


def _line(line: Line) -> Line:
    if isinstance(line, tuple):
        return tuple(_inline(part) for part in line)
    return _inline(line)


def _inline(part: Inline) -> Inline:
    return Code(part.target) if isinstance(part, Link) else part
