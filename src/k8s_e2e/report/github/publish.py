"""A finished run on GitHub: step summary, annotations, the pull request's comment; each says what became of it.

What is sent is what stands in the run directory (`step-summary.md`, `pr-comment.md`, `findings.json`), with the hidden
lines of a `stamp` and a line of links. Nothing that GitHub does or refuses changes the verdict of a run, so nothing of
it raises here.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.progress import Progress, silent
from k8s_e2e.base.text import defused, one_line
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.verdict import verdict
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.results import StepResult
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings
from k8s_e2e.model.story import Findings
from k8s_e2e.report.github import shedding
from k8s_e2e.report.github.annotations import Annotation, Place, annotations, commands
from k8s_e2e.report.github.api import IssueComments, Refused
from k8s_e2e.report.github.comment import Upsert
from k8s_e2e.report.github.patience import GaveUp, Patience
from k8s_e2e.report.github.stamp import stamp
from k8s_e2e.report.github.views import COMMENT_BUDGET, MARKER, SUMMARY_BUDGET
from k8s_e2e.report.github.workflow import Workflow, workflow
from k8s_e2e.report.markdown import span

_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True)
class Request:
    """What to publish as. ``name`` tells comments of one workflow apart; ``artifact`` holds the run directory."""

    name: str = ""
    artifact: str = ""
    pull_request: int = 0  # 0: the event's
    dry_run: bool = False


@dataclass(frozen=True)
class Channel:
    """What became of one channel, in one line; ``text`` is what a dry run would have sent."""

    name: Literal["summary", "comment", "annotations"]
    status: Literal["published", "skipped", "failed", "would be sent"]
    detail: str
    text: str = ""


@dataclass(frozen=True)
class Published:
    """What became of each channel, and the lines that have to be printed to stdout for GitHub to see them."""

    channels: tuple[Channel, ...]
    commands: tuple[str, ...] = ()


def publish(
    run: RunDir,
    request: Request,
    env: Mapping[str, str],
    *,
    settings: Settings,
    progress: Progress = silent,
    patience: Patience | None = None,
) -> Published:
    """Publish a run as far as ``env`` says that there is something to publish it to.

    Raises:
        UsageError: a file of the run directory is absent or unreadable, or the request's name cannot be one.
    """
    texts = {name: _text(run, name) for name in ("REPORT.md", "step-summary.md", "pr-comment.md")}
    here = workflow(env)
    hidden = stamp(request.name, here.age)
    told = _annotations(run, here)
    summary = _summary(_placed(texts["step-summary.md"], "", _links(here, request)), request, here)
    if patience is None:
        patience = Patience(settings.publish_timeout_s, progress)
    text = _placed(texts["pr-comment.md"].removeprefix(f"{MARKER}\n"), hidden, _links(here, request))
    comment = _comment(text, request, here, patience, settings)
    failed = [Annotation("warning", f"k8s-e2e publish: {one.name}", one.detail) for one in (summary, comment)
              if one.status == "failed"]  # fmt: skip
    lines = commands([*failed, *told])
    last = _annotated(lines, request, here)
    return Published((summary, comment, last), tuple(lines) if last.status == "published" else ())


def _text(run: RunDir, name: str) -> str:
    try:
        return run.path(name).read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError as error:
        message = f"cannot read {run.path(name)}: {error.strerror}"
        raise UsageError(message, hint=f"`k8s-e2e report {run.root}` writes it") from error


def _links(here: Workflow, request: Request) -> str:
    """Return the line under the title: which job and commit this is about, and where everything else is."""
    parts = [span(request.name)] if request.name else []
    if here.commit:
        parts.append(f"commit {span(here.commit[:10])}")
    if here.run_url:
        parts.append(f"[workflow run, attempt {here.age.attempt}]({here.run_url})")
    line = " · ".join([*parts, f"files named here are in {_places(here, request)}"])
    return line[0].upper() + line[1:]


def _places(here: Workflow, request: Request) -> str:
    if not request.artifact:
        return "the run directory"
    link = f"[artifact]({here.run_url}#artifacts)" if here.run_url else "artifact"
    return f"the {link} {span(request.artifact)}"


def _placed(text: str, hidden: str, links: str) -> str:
    """Put the hidden lines in front, and the links right below the title, so that no cut parts them from it."""
    title, _, rest = text.partition("\n")
    return "\n".join([*([hidden] if hidden else []), title, links, rest])


def _summary(text: str, request: Request, here: Workflow) -> Channel:
    if here.summary is None:
        return _offered("summary", "GITHUB_STEP_SUMMARY is not set: this is no step of a workflow", text, request)
    try:
        there = here.summary.stat().st_size if here.summary.exists() else 0
        rungs = shedding.rungs(text, budget=SUMMARY_BUDGET - there - 2, size=shedding.octets,
                               places=_places(here, request))  # fmt: skip
        fitting = next(rungs, None)
        if fitting is None:
            return Channel("summary", "failed", f"no room: {there} of {SUMMARY_BUDGET} bytes are taken already")
        if request.dry_run:
            return Channel("summary", "would be sent", f"{shedding.octets(fitting)} bytes", fitting)
        with here.summary.open("ab") as stream:
            stream.write(b"\n\n" * bool(there) + fitting.encode("utf-8", "replace"))
    except OSError as error:
        return Channel("summary", "failed", f"cannot write {here.summary}: {error.strerror}")
    return Channel("summary", "published", f"{shedding.octets(fitting)} bytes{_shortened(fitting, text)}")


def _annotated(lines: list[str], request: Request, here: Workflow) -> Channel:
    count = "1 annotation" if len(lines) == 1 else f"{len(lines)} annotations"
    if not here.active:
        return _offered("annotations", "GITHUB_ACTIONS is not true: this is no step of a workflow", "\n".join(lines),
                        request)  # fmt: skip
    if request.dry_run:
        return Channel("annotations", "would be sent", count, "\n".join(lines))
    return Channel("annotations", "published", count)


def _comment(text: str, request: Request, here: Workflow, patience: Patience, settings: Settings) -> Channel:
    number = request.pull_request or here.pull_request
    rungs = shedding.rungs(text, budget=COMMENT_BUDGET, size=shedding.characters, places=_places(here, request))
    missing = _missing(request, here)
    if missing:
        return _offered("comment", missing, next(rungs, ""), request)
    if request.dry_run:
        fitting = next(rungs, "")
        detail = f"{shedding.characters(fitting)} characters to {here.repository}#{number}"
        return Channel("comment", "would be sent", detail, fitting)
    try:
        return _sent(rungs, number, request, here, patience, settings)
    except GaveUp as error:
        return Channel("comment", "failed", str(error))
    except Refused as error:
        return _refused(error, here)


def _sent(
    rungs: Iterator[str], number: int, request: Request, here: Workflow, patience: Patience, settings: Settings
) -> Channel:
    comments = IssueComments(
        api_url=here.api_url,
        token=here.token,
        repository=here.repository,
        number=number,
        patience=patience,
        timeout_s=settings.request_timeout_s,
    )
    try:
        placed = Upsert(comments, rungs, name=request.name, age=here.age, patience=patience).run()
    finally:
        comments.close()
    more = f"; {placed.more} more of ours are there, left as they are" if placed.more else ""
    if placed.done == "newer":
        return Channel("comment", "skipped", f"a later run has commented: {placed.url}{more}")
    return Channel("comment", "published", f"{placed.done}: {placed.url}{more}")


def _missing(request: Request, here: Workflow) -> str:
    """Return why no comment can be tried, empty where one can. Outside of a workflow it has to be asked for."""
    checks = (
        (
            here.active or request.pull_request,
            "this is no step of a workflow; --pull-request NUMBER sends one all the same",
        ),
        (request.pull_request or here.pull_request, f"event {here.event or '(none)'} has no pull request"),
        (here.token, "GITHUB_TOKEN is not set; a step is given it by `env: {GITHUB_TOKEN: ${{ github.token }}}`"),
        (here.repository, "GITHUB_REPOSITORY is not set to OWNER/NAME"),
        (here.takes_token, "GITHUB_API_URL is no https address: no token is sent there"),
    )
    return next((why for met, why in checks if not met), "")


def _refused(error: Refused, here: Workflow) -> Channel:
    if error.status == _FORBIDDEN and "not accessible" in error.why:
        if here.fork or here.dependabot:
            who = "a fork, whose workflows" if here.fork else "Dependabot, whose workflows"
            why = f"the pull request comes from {who} may not comment ({error.why})"
            return Channel("comment", "skipped", f"{why}; summary and artifact hold all of it")
        why = "the token may not comment: the job needs `permissions: {pull-requests: write}`"
        return Channel("comment", "failed", f"{why} ({error.why})")
    hint = "; GITHUB_TOKEN is not valid (any more)" if error.status == _UNAUTHORIZED else ""
    return Channel("comment", "failed", f"{error.why}{hint}")


def _offered(name: Literal["summary", "comment", "annotations"], why: str, text: str, request: Request) -> Channel:
    """Return a channel that is skipped; a dry run shows all the same what would be sent."""
    return Channel(name, "skipped", why, text if request.dry_run else "")


def _shortened(sent: str, text: str) -> str:
    return "" if sent == text else f", shortened from {shedding.octets(text)}"


def _annotations(run: RunDir, here: Workflow) -> list[Annotation]:
    observed = Observed(run)
    io.load(run.run_json, RunRecord)  # here an unreadable one is an error, not a blind spot
    findings = io.load_or(run.findings, Findings)
    root = here.workspace or Path.cwd()

    def place_of(step: StepResult) -> Place:
        file, _, line = step.source.rpartition(":")
        path = Path(os.path.normpath(root / file)) if file and line.isdecimal() else root
        inside = path.is_relative_to(root) and path.is_file()
        return Place(path.relative_to(root).as_posix(), int(line)) if inside else Place()

    return annotations(verdict(observed.record, observed.results), observed.results, findings, place_of)


def told(channel: Channel) -> str:
    """Return what became of a channel as one line that commands nothing."""
    return defused(one_line(f"{channel.name}: {channel.status}: {channel.detail}", 600))
