"""Failures on the side of the test: the kit got no answer, or the expectation itself is what differs."""

from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import SYMPTOM, Candidate, Facts
from k8s_e2e.diagnosis.verdict import Failure, known
from k8s_e2e.model.results import StepResult
from k8s_e2e.model.story import Finding

_SERVER_ERROR = 500
_CLIENT_ERROR = 400


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield what the failing step itself proves; other families explain it where they can."""
    failure = facts.failure
    if failure is None or failure.step is None:
        return
    unanswered = [row for row in facts.observed.requests if row.value.step == failure.id and row.value.status == 0]
    answered = [row for row in facts.observed.requests if row.value.step == failure.id and row.value.status != 0]
    if unanswered and not answered:
        service = unanswered[-1].value.service
        yield _unanswered(facts, failure, service, f"requests.jsonl#L{unanswered[-1].line}", unanswered[-1].value.error)
    elif answered and answered[-1].value.status >= _CLIENT_ERROR and failure.step.kind == "http":
        row = answered[-1]
        yield _refused(failure, row.value.service, row.value.status, f"requests.jsonl#L{row.line}")
    yield _unmet(failure, failure.step)


def _unanswered(facts: Facts, failure: Failure, service: str, pointer: str, error: str) -> Candidate:
    tracked = facts.objects.find("Service", service)
    behind = {pod.ref for pod in facts.objects.selected(tracked)} if tracked else set()
    ready = [pod for pod in facts.pods if pod.tracked.ref in behind and pod.ready_after(failure.started)]
    where = "although a ready pod stood behind it" if ready else "and no ready pod was seen behind it"
    finding = Finding(
        id=f"no-answer:Service/{service}",
        severity="error",
        fault="harness" if ready else "unknown",
        title=f"The kit got no answer from Service/{service}, {where}",
        object=f"Service/{service}",
        time=failure.started,
        step=failure.id,
        detail=one_line(error),
        evidence=[pointer],
        disproof=f"a request to {service} that was answered during the step",
        next_command=f'grep -n \'"service":"{service}"\' requests.jsonl',
        fix="look at the port-forward in logs/kit.jsonl" if ready else f"find out why {service} has no ready pod",
    )
    return Candidate(finding, SYMPTOM, frozenset({f"Service/{service}", *behind}))


def _refused(failure: Failure, service: str, status: int, pointer: str) -> Candidate:
    finding = Finding(
        id=f"http-{status}:Service/{service}",
        severity="error",
        fault="product" if status >= _SERVER_ERROR else "unknown",
        title=f"Service/{service} answered {status}",
        object=f"Service/{service}",
        time=failure.started,
        step=failure.id,
        detail=failure.message,
        evidence=[pointer],
        disproof="the same request answered as expected in this run",
        next_command=f'grep -n \'"service":"{service}"\' requests.jsonl',
        fix="the service's log and trace of this request say why; a 4xx may also be what the scenario sent",
    )
    return Candidate(finding, SYMPTOM, frozenset({f"Service/{service}"}))


def _unmet(failure: Failure, step: StepResult) -> Candidate:
    finding = Finding(
        id=f"step:{failure.id}",
        severity="error",
        fault="unknown",
        title=one_line(f"Step {failure.id} ({step.name}) was not met: {known(step) or 'it says no more'}", 240),
        time=failure.started,
        step=failure.id,
        detail="No rule found what caused it in the evidence collected.",
        evidence=[f"k8s-e2e-results.json#{failure.id}", *step.evidence[:4]],
        disproof="the step's own evidence showing what was expected",
        next_command=f"grep -n -A40 '\"{failure.id}\"' k8s-e2e-results.json",
        fix="compare expected and actual; when the platform is right, mend the scenario",
    )
    return Candidate(finding, SYMPTOM)
