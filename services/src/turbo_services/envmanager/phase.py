"""Is an environment up, and if not, where does it hang; pure."""

from typing import Final, NamedTuple, get_args

from turbo_services.common.wire import Build, ComponentStatus, Environment, GraphStatus, Phase

_PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
_UP: Final[Phase] = "Running"


class Answer(NamedTuple):
    """What a peer said: the thing, or nothing, or why it could not be asked."""

    build: Build | None = None
    build_error: str = ""
    operator: GraphStatus | None = None
    operator_error: str = ""


class Verdict(NamedTuple):
    """The phase, and where it hangs (empty when it is up)."""

    phase: Phase
    stuck_at: str = ""


def judge(environment: Environment, answer: Answer, hop: str) -> Verdict:
    """The phase of an environment.

    Running is said only when the operator says it of the build that is current.

    Args:
        environment: what envmanager knows.
        answer: what builder and operator say.
        hop: what the last attempt in the background ended with; empty when it went well.
    """
    if environment.status == "deleting":
        return Verdict("Deleting", hop or _of_deletion(answer))
    if environment.status == "failed":
        return Verdict("Failed", f"build: {environment.message or 'failed'}")
    if environment.status in ("creating", "building"):
        return Verdict("Building", hop or _of_build(answer))
    return _of_operator(environment, answer)


def _of_deletion(answer: Answer) -> str:
    if answer.operator_error:
        return f"operator: {answer.operator_error}"
    if answer.operator is not None:
        return f"operator still has it: phase {answer.operator.phase or 'unknown'}"
    return "waiting for the operator to confirm that nothing is left"


def _of_build(answer: Answer) -> str:
    if answer.build_error:
        return f"builder: {answer.build_error}"
    if answer.build is None:
        return "builder has not been asked yet"
    step = next((step for step in answer.build.steps if step.status in ("running", "failed")), None)
    return f"build {answer.build.id}: {step.name if step else answer.build.status}"


def _of_operator(environment: Environment, answer: Answer) -> Verdict:
    status, current = answer.operator, environment.current_build_id or ""
    if answer.operator_error:
        return Verdict("Reconciling", f"operator: {answer.operator_error}")
    if status is None:
        return Verdict("Reconciling", f"operator has not taken up build {current} yet")
    if status.build_id != current:
        return Verdict("Reconciling", f"operator is at build {status.build_id or 'unknown'}, current is {current}")
    phase = next((known for known in _PHASES if known == status.phase), None)
    if phase == _UP:
        return Verdict(_UP)
    return Verdict(phase or "Reconciling", _of_components(status))


def _of_components(status: GraphStatus) -> str:
    behind = [_of_component(component) for component in status.component_statuses if component.phase != _UP]
    if behind:
        return "; ".join(behind)
    reasons = [
        f"{condition.get('type')}: {condition.get('message') or condition.get('reason')}"
        for condition in status.conditions
        if (condition.get("message") or condition.get("reason"))
        # Degraded and Progressing tell of trouble or delay by being true, all others by not being so.
        and (condition.get("status") == "True") == (condition.get("type") in ("Degraded", "Progressing"))
    ]
    return "; ".join(reasons) or f"operator reports phase {status.phase or 'unknown'}"


def _of_component(component: ComponentStatus) -> str:
    text = f"component {component.package_name}: {component.available_replicas}/{component.replicas} available"
    return f"{text}, {component.message}" if component.message else text
