"""The form of the container logs in a run directory.

``k8s/logs/<pod>/<container>.txt`` holds the last run of a container, ``<container>.previous.txt`` all runs before it.
Each run begins with a header, each line with its time, as `kubectl logs --timestamps` writes it::

    ==> shop-6d5/shop run=0 uid=0b54... <==
    2026-01-02T03:04:05.000006Z {"msg": "listening"}

A run that nobody could read is a header that ends in ``missed``.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from k8s_e2e.base import clock

_HEADER = re.compile(r"^==> (\S+)/(\S+) run=(\d+) uid=(\S*)( missed)? <==$")
_TIMED = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?(.*)$", re.DOTALL)


class Run(NamedTuple):
    """One run of one container: ``number`` is its restart count, ``uid`` the pod's."""

    pod: str
    container: str
    number: int
    uid: str
    missed: bool = False


class LogLine(NamedTuple):
    """One line: its file's line number (from 1), its time (RFC 3339, empty if it has none), its text, its run."""

    number: int
    time: str
    text: str
    run: Run | None


def header(run: Run) -> str:
    """Return the line that begins ``run``, without newline."""
    missed = " missed" if run.missed else ""
    return f"==> {run.pod}/{run.container} run={run.number} uid={run.uid}{missed} <=="


def parse_header(line: str) -> Run | None:
    """Read a header; None if ``line`` is none."""
    match = _HEADER.match(line)
    if not match:
        return None
    pod, container, number, uid, missed = match.groups()
    return Run(pod, container, int(number), uid, bool(missed))


def split(line: str) -> tuple[str, str]:
    """Split a line into its time (in the kit's form, empty if it has none) and its text."""
    match = _TIMED.match(line)
    if not match:
        return "", line
    return clock.normal(match[1]), match[2]


def parse(lines: Iterable[str]) -> Iterator[LogLine]:
    """Yield the log lines of a file or of several in a row; headers set the run of what follows."""
    run: Run | None = None
    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\n")
        begun = parse_header(text) if text.startswith("==> ") else None
        if begun:
            run = begun
            continue
        time, rest = split(text)
        yield LogLine(number, time, rest, run)


def read(path: Path) -> Iterator[LogLine]:
    """Yield the lines of ``path``; an absent file yields nothing."""
    if not path.exists():
        return
    with path.open("r", encoding="utf-8", errors="replace", newline="\n") as stream:
        yield from parse(stream)
