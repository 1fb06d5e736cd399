"""Section 8: warnings and errors of the logs, alike ones folded; the last lines of each service only in HTML."""

from k8s_e2e.base.text import lines, one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.logs import describe, templates
from k8s_e2e.report.model import Block, Code, Fold, Line, Link, Para, Pre, Section, Table

_MOST = 15
_TAIL = 200
_TAIL_BYTES = 24 * 1024  # of one service, so that the HTML stays small with many services


def section(facts: Facts) -> Section:
    """Return section 8."""
    service_of = {pod.name: pod.controller.partition("/")[2] or pod.name for pod in facts.pods}
    found = templates(facts.observed, service_of)
    files = _service_logs(facts)
    blocks: list[Block] = []
    if found:
        rows: tuple[tuple[Line, ...], ...] = tuple(
            (
                str(one.count),
                one.level,
                Code(one.service),
                Code(one_line(describe(one.first), 240)),
                one.first.time[11:23],
                Code(one.first.pointer),
            )
            for one in found[:_MOST]
        )
        more: Line = f"{len(found) - _MOST} more kinds of line in the logs." if len(found) > _MOST else ""
        blocks.append(
            Table(("times", "level", "service", "first of its kind", "at (UTC)", "evidence"), rows, more=more)
        )
    elif facts.log_files:
        blocks.append(Para("No warning and no error was logged."))
    else:
        blocks.append(Para("No container log was collected."))
    if files:
        blocks.append(Para((f"The last {_TAIL} lines of each service are in ", Link("REPORT.html#section-8"), ".")))
    blocks += [Fold(f"Last lines of {name}", (Pre(text),), only_html=True) for name, text in files]
    return Section(8, "Log lines", tuple(blocks), ("REPORT.html", "k8s/logs"))


def _service_logs(facts: Facts) -> list[tuple[str, str]]:
    """Return name and last lines of each `k8s/logs-<service>.txt`."""
    found = []
    for path in sorted(facts.observed.run.k8s.glob("logs-*.txt")):
        try:
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                text = stream.read().decode("utf-8", "replace")
        except OSError as error:
            facts.observed.blind(facts.observed.relative(path), f"unreadable ({error.strerror})")
            continue
        found.append((path.stem.removeprefix("logs-"), "\n".join(lines(text, most=_TAIL, last=True))))
    return found
