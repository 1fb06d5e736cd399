"""The run itself: never deployed, cut short from outside, or incomplete; no defect of the product."""

from collections.abc import Iterator

from k8s_e2e.base.text import one_line
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


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield stages that failed or were stopped, and a run that never came to its scenarios."""
    record = facts.observed.record
    for stage in record.stages:
        if stage.name == "report":
            continue  # a report says nothing of itself: made again it must say the same
        if stage.status == "interrupted":
            yield _interrupted(stage)
        elif stage.status == "failed" and (stage.name != "test" or facts.failure is None or facts.failure.step is None):
            yield _failed(stage)
    if facts.verdict.word == "incomplete" and facts.failure is None:
        yield _incomplete(facts.verdict.reason)


def _interrupted(stage: StageOutcome) -> Candidate:
    finding = Finding(
        id=f"interrupted:{stage.name}",
        severity="error",
        fault="ci",
        title=f"The run was stopped from outside during stage {stage.name}",
        time=stage.started,
        step=stage.name,
        detail=one_line(f"after {stage.duration_s:.1f} s; {stage.error or 'no reason was recorded'}"),
        because=["later stages have no result, which says nothing about the platform"],
        evidence=[f"run.json#{stage.name}"],
        disproof="an outcome of that stage other than interrupted",
        next_command="grep -n signal logs/kit.jsonl",
        fix="run it again, or give the job more time",
    )
    return Candidate(finding, SYMPTOM)


def _failed(stage: StageOutcome) -> Candidate:
    rule, fault, words = _EXIT.get(stage.exit_code, ("stage-failed", "unknown", f"exit code {stage.exit_code}"))
    only_evidence = stage.name in EVIDENCE
    if stage.error.startswith(_OWN_ERROR):
        rule, fault, words = (
            "kit-error",
            "harness",
            "a defect of the kit itself; its traceback is in the stage's notebook",
        )
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
        next_command=f"grep -n error logs/kit.jsonl; ls logs notebooks/{stage.name}.md",
        fix=one_line(stage.hint) or "the stage's notebook and logs/kit.jsonl say more",
    )
    return Candidate(finding, CONSEQUENCE if stage.exit_code in _EXIT else SYMPTOM)


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
