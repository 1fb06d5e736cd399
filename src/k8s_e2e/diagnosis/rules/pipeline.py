"""The run itself: never deployed, cut short from outside, or incomplete; no defect of the product."""

import re
import shlex
import signal
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis import refusals
from k8s_e2e.diagnosis.facts import CONSEQUENCE, SYMPTOM, Candidate, Facts
from k8s_e2e.diagnosis.verdict import EVIDENCE
from k8s_e2e.model.run import StageOutcome
from k8s_e2e.model.story import Fault, Finding

_EXIT: dict[int, tuple[str, Fault, str]] = {
    2: ("usage", "harness", "a parameter or file of the run is wrong"),
    3: ("environment", "infrastructure", "cluster or images failed before anything was applied"),
    4: ("watchdog", "harness", "the stage ran longer than its own limit"),
    5: ("kernel-died", "infrastructure", "the notebook's kernel died"),
}
_OWN_ERROR = "internal error:"  # how a stage records an exception that nobody raised on purpose
_ENVIRONMENT = 3
_PERMISSIONS = re.compile(r"`k8s-e2e (permissions[^`]*)`")  # the hint of a run that lacks some


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield stages that failed or were stopped, and a run that never came to its scenarios."""
    record = facts.observed.record
    for stage in record.stages:
        if stage.name == "report":
            continue  # a report says nothing of itself: made again it must say the same
        if stage.status == "interrupted":
            yield _interrupted(facts, stage)
        elif stage.status == "failed" and (stage.name != "test" or facts.failure is None or facts.failure.step is None):
            yield _failed(facts, stage)
    if facts.verdict.word == "incomplete" and facts.failure is None:
        yield _incomplete(facts.verdict.reason)


def _interrupted(facts: Facts, stage: StageOutcome) -> Candidate:
    record = facts.observed.record
    directory = one_line(str(record.parameters.get("run_dir") or "DIR"))
    finding = Finding(
        id=f"interrupted:{stage.name}",
        severity="error",
        fault="unknown",  # nothing in a run says whether a person, a timeout or a CI system sent the signal
        title=f"The run was stopped from outside{_signal(stage.error)} during stage {stage.name}",
        time=stage.started,
        step=stage.name,
        detail=f"after {stage.duration_s:.1f} s of it; what did not run says nothing about the platform",
        evidence=[f"run.json#{stage.name}"],
        disproof="an outcome of that stage other than interrupted",
        next_command=record.command("run", "--from", "collect", "--run-dir", directory),
        fix="run it again; where a time limit sent the signal, give it more time",
    )
    return Candidate(finding, SYMPTOM)


def _signal(error: str) -> str:
    """Return `` (signal 2, SIGINT)`` as far as the stage's error tells it."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if re.search(rf"\b{one.name}\b|\bsignal {one.value}\b", error):
            return f" (signal {one.value}, {one.name})"
    return ""


def _failed(facts: Facts, stage: StageOutcome) -> Candidate:
    rule, fault, words = _EXIT.get(stage.exit_code, ("stage-failed", "unknown", f"exit code {stage.exit_code}"))
    only_evidence = stage.name in EVIDENCE
    if stage.error.startswith(_OWN_ERROR):
        rule, fault, words = (
            "kit-error",
            "harness",
            "a defect of the kit itself; its traceback is in the stage's notebook",
        )
    if stage.exit_code == _ENVIRONMENT and _PERMISSIONS.search(stage.hint):
        words = one_line(stage.error)
    finding = Finding(
        id=f"{rule}:{stage.name}",
        severity="warning" if only_evidence else "error",
        fault="harness" if only_evidence and fault == "unknown" else fault,
        title=one_line(f"Stage {stage.name} failed: {stage.error or words}", 240),
        time=stage.started,
        step=stage.name,
        detail=words,
        evidence=[f"run.json#{stage.name}"],
        disproof="the same stage passing with the same inputs",
        next_command=_next(facts, stage, rule),
        fix=one_line(stage.hint) or f"notebooks/{stage.name}.md holds all that the stage said",
    )
    return Candidate(finding, CONSEQUENCE if stage.exit_code in _EXIT else SYMPTOM)


def _next(facts: Facts, stage: StageOutcome, rule: str) -> str:
    """Name the log that tells most, of those that were sealed; the stage's notebook is always there."""
    if asked := _PERMISSIONS.search(stage.hint):
        return refusals.role_command(facts.observed.record, *asked[1].split())
    logs = {file.path for file in facts.observed.manifest.files if file.path.startswith("logs/")}
    builds = sorted(path for path in logs if path.startswith("logs/build-"))
    if rule == "environment" and re.search(r"\bbuild", stage.error) and builds:
        named = [path for path in builds if path.removeprefix("logs/build-").removesuffix(".txt") in stage.error]
        return f"tail -n 40 {shlex.join(named) or 'logs/build-*.txt'}"
    if rule == "environment" and any(path.startswith("logs/cluster-") for path in logs):
        return "grep -inE 'error|fail' logs/cluster-*.txt | tail -n 40"
    return f"tail -n 60 notebooks/{stage.name}.md"


def _incomplete(reason: str) -> Candidate:
    finding = Finding(
        id="incomplete",
        severity="error",
        fault="harness",
        title=one_line(f"The run is incomplete: {reason}"),
        detail="nothing is known about the platform beyond what the evidence shows",
        evidence=["run.json"],
        disproof="a test stage with results",
        next_command="tail -n 20 logs/kit.jsonl",
        fix="run the missing stages",
    )
    return Candidate(finding, SYMPTOM)
