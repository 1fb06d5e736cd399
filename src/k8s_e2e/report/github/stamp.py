"""The hidden lines a comment begins with: the first says whose it is, the second which run and attempt wrote it."""

import re
from typing import NamedTuple

from k8s_e2e.base.errors import UsageError
from k8s_e2e.report.github.views import MARKER

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._/()+,-]{0,58}[A-Za-z0-9._/()+])?")
_AGE = re.compile(r"<!-- run ([0-9]{1,18}) attempt ([0-9]{1,9}) -->")


class Age(NamedTuple):
    """When a comment was written, in workflow runs: run ids grow, attempts of one count from 1. Later is greater."""

    run_id: int = 0  # 0: not by a workflow
    attempt: int = 0


def marker(name: str) -> str:
    """Return the first line of the comment called ``name``; a workflow with one comment needs no name.

    Raises:
        UsageError: the name could end the hidden line, or is longer than 60 characters.
    """
    if not name:
        return MARKER
    if not _NAME.fullmatch(name) or "--" in name:
        message = f"--name {name!r}: letters, digits, spaces and . _ / ( ) + , - are allowed, 60 at most, and no --"
        raise UsageError(message, hint="name the job, such as 'kind 1.36'")
    return f"<!-- k8s-e2e {name} -->"


def stamp(name: str, age: Age) -> str:
    """Return both hidden lines."""
    return f"{marker(name)}\n<!-- run {age.run_id} attempt {age.attempt} -->"


def age_of(body: str, name: str) -> Age | None:
    """Return when a comment was written, None where it is not one called ``name``.

    Only the first two lines count: a marker further down is text of a run, or a quotation. Without a readable second
    line it is older than any.
    """
    lines = [line.rstrip("\r") for line in body.split("\n", 2)]
    if lines[0] != marker(name):
        return None
    found = _AGE.fullmatch(lines[1]) if len(lines) > 1 else None
    return Age(int(found[1]), int(found[2])) if found else Age()
