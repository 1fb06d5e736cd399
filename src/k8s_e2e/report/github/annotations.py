"""Annotations of a workflow run: GitHub's workflow commands, one for each root cause.

The format is that of "Workflow commands for GitHub Actions" (docs.github.com) and of `actions/toolkit`
(`packages/core/src/command.ts`): ``::LEVEL file=F,line=N,title=T::MESSAGE``, one line each.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.verdict import Failure, Verdict, known
from k8s_e2e.model.results import Results, StepResult
from k8s_e2e.model.story import Finding, Findings

Level = Literal["error", "warning", "notice"]
MOST = 10  # of a level; GitHub shows no more of one step

_LEVELS: dict[str, Level] = {"error": "error", "warning": "warning", "info": "notice"}
_TITLE = 200  # characters; GitHub cuts at 255
_LINE = 600  # characters of one line of a message


class Place(NamedTuple):
    """A line of a file of the repository; no file: the run as a whole."""

    file: str = ""
    line: int = 0


class Annotation(NamedTuple):
    """One annotation; ``message`` may have several lines."""

    level: Level
    title: str
    message: str
    place: Place = Place()


def annotations(
    verdict: Verdict, results: Results, findings: Findings, place_of: Callable[[StepResult], Place]
) -> list[Annotation]:
    """Return one annotation for each finding; where none is an error, one for what failed.

    A run that passed and has nothing to say gives none. What a failed run's findings call information (trouble that was
    over by itself) is left out. ``place_of`` says where in the repository a step is written.
    """
    steps = {step.id: step for scenario in results.scenarios for step in [*scenario.steps, *scenario.cleanup]}
    passed = verdict.word == "passed"
    told = [_of_finding(finding, steps.get(finding.step), place_of) for finding in findings.findings
            if passed or finding.severity != "info"]  # fmt: skip
    if not passed and not any(finding.severity == "error" for finding in findings.findings):
        told.insert(0, _of_failure(verdict.failure, place_of) if verdict.failure else _of_verdict(verdict))
    return told


def commands(told: Iterable[Annotation]) -> list[str]:
    """Return the annotations as lines for stdout, at most `MOST` of each level; the last says how many are left out."""
    told = list(told)
    lines: list[str] = []
    for level in ("error", "warning", "notice"):
        of_level = [one for one in told if one.level == level]
        shown = of_level if len(of_level) <= MOST else of_level[: MOST - 1]
        lines += [command(one) for one in shown]
        left = len(of_level) - len(shown)
        if left:
            lines.append(command(Annotation(level, f"{left} more", f"{left} more {level}s are in findings.json")))
    return lines


def command(one: Annotation) -> str:
    """Return one annotation as GitHub reads it; nothing in its texts can end it or begin another."""
    properties = [("title", one_line(one.title, _TITLE))]
    if one.place.file:
        properties.insert(0, ("file", one.place.file))
        if one.place.line:
            properties.insert(1, ("line", str(one.place.line)))
    listed = ",".join(f"{key}={escaped_property(value)}" for key, value in properties if value)
    text = "\n".join(line for line in (one_line(line, _LINE) for line in one.message.split("\n")) if line)
    return f"::{one.level} {listed}::{escaped_data(text or one.level)}"


def escaped_data(text: str) -> str:
    """Return ``text`` as the message of a command: ``%`` first, as everything else becomes one."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escaped_property(text: str) -> str:
    """Return ``text`` as the value of a command's property: ``:`` and ``,`` would end it."""
    return escaped_data(text).replace(":", "%3A").replace(",", "%2C")


def _of_finding(finding: Finding, step: StepResult | None, place_of: Callable[[StepResult], Place]) -> Annotation:
    chain = [link for link in finding.because if link != finding.title]
    said = [*chain[:1], finding.detail]
    named = (("fault", finding.fault), ("evidence", ", ".join(finding.evidence[:4])), ("fix", finding.fix),
             ("next", finding.next_command))  # fmt: skip
    said += [f"{name}: {text}" for name, text in named if text]
    place = place_of(step) if step is not None else Place()
    return Annotation(_LEVELS[finding.severity], finding.title, _lines(said), place)


def _of_failure(failure: Failure, place_of: Callable[[StepResult], Place]) -> Annotation:
    step = failure.step
    said = [failure.message, known(step) if step is not None else "", "no rule of the kit explains it; see REPORT.md"]
    return Annotation("error", f"{failure.where} failed", _lines(said), place_of(step) if step is not None else Place())


def _of_verdict(verdict: Verdict) -> Annotation:
    level: Level = "error" if verdict.word == "failed" else "warning"
    return Annotation(level, f"The run is {verdict.word}", verdict.reason)


def _lines(said: list[str]) -> str:
    return "\n".join(dict.fromkeys(one_line(text, _LINE) for text in said if text))
