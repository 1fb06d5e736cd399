"""What the operator says about a graph: computed from what the API server showed, never from what was sent.

Phases of a graph: Deleting, Failed (the spec is refused), Degraded (something cannot become what the graph asks for
without help), Reconciling (writes are outstanding), Deploying (all written, pods on their way), Running.
Phases of a component: Refused, Conflict, Failed, Degraded, Pending, Deploying, Running.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turbo_operator.core import conditions
from turbo_operator.core.desired import Object, ObjectKey
from turbo_operator.core.graph import Graph, Refusal
from turbo_operator.core.rollout import Progress, component_status, refused_status

_SHORTENED_ROWS = 100
_SHORTENED_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Subject:
    """The APIGraph a status speaks of.

    Attributes:
        generation: Its `metadata.generation`.
        build_id: Its build, also when the spec is refused; may be empty.
        deleting: It has a deletion timestamp.
        previous: Its status before, for transition times and to tell loss from start.
    """

    generation: int
    build_id: str
    deleting: bool = False
    previous: Mapping[str, Any] | None = None


def status(
    graph: Graph | Refusal,
    observed: Mapping[ObjectKey, Object],
    progress: Progress,
    subject: Subject,
    *,
    now: str,
    simulated: bool = False,
) -> dict[str, Any]:
    """The status of an APIGraph.

    Args:
        graph: The normalized spec.
        observed: Slim objects, at least all the graph wants.
        progress: State of the writer.
        subject: The APIGraph.
        now: RFC 3339 time of this status.
        simulated: No cluster stands behind `observed`; said in messages and reasons.
    """
    if progress.generation != subject.generation:
        progress = Progress(progress.generation)  # what went wrong with another spec says nothing of this one
    rows: list[dict[str, Any]] = []
    problems, unused = list(graph.problems), 0
    if isinstance(graph, Graph):
        rows = _rows(graph, observed, progress, subject, simulated=simulated)
        problems = [f"{refused.package_name}: {refused.message}" for refused in graph.refused] + problems
        unused = len(graph.refused)
    refused = not isinstance(graph, Graph)
    generation = subject.generation
    planned = progress.generation == generation
    phase = _phase(rows, progress, subject, problems=bool(problems), refused=refused)
    verdicts = {
        "Accepted": conditions.accepted(problems, refused=refused),
        "Applied": conditions.applied(phase, progress, planned=planned, unused=unused),
        "Ready": conditions.ready(phase, rows, planned=planned, simulated=simulated),
        "Progressing": conditions.progressing(phase, rows),
        "Degraded": conditions.degraded(phase, rows, problems, progress),
    }
    result: dict[str, Any] = {
        "observedGeneration": generation,
        "buildId": subject.build_id,
        "phase": phase,
        "componentStatuses": rows,
        "conditions": conditions.conditions(verdicts, generation=generation, previous=subject.previous, now=now),
    }
    if isinstance(graph, Graph) and graph.host:
        result["previewUrl"] = f"http://{graph.host}/"
    return result


def shortened(full: Mapping[str, Any]) -> dict[str, Any]:
    """`full` for an APIGraph that has no room for it: of the components only the first that do not run.

    The counts stand in the message of the Ready condition.
    """
    rows = [row for row in full["componentStatuses"] if row["phase"] != "Running"][:_SHORTENED_ROWS]
    brief = [{**row, "message": row["message"][:_SHORTENED_MESSAGE]} for row in rows]  # what does not run says why
    short = [{**condition, "message": condition["message"][:_SHORTENED_MESSAGE]} for condition in full["conditions"]]
    return {**full, "componentStatuses": brief, "conditions": short}


def _rows(
    graph: Graph, observed: Mapping[ObjectKey, Object], progress: Progress, subject: Subject, *, simulated: bool
) -> list[dict[str, Any]]:
    previous = (subject.previous or {}).get("componentStatuses") or ()
    ran_at = {row.get("packageName"): row.get("availableGeneration") for row in previous}
    rows = [
        component_status(
            component,
            observed,
            progress,
            generation=subject.generation,
            ran_at=ran_at.get(component.package_name),
            simulated=simulated,
        )
        for component in graph.components
    ]
    rows += [refused_status(component, observed) for component in graph.refused]
    return sorted(rows, key=lambda row: str(row["packageName"]))


def _phase(rows: list[dict[str, Any]], progress: Progress, subject: Subject, *, problems: bool, refused: bool) -> str:
    phases = {row["phase"] for row in rows}
    if subject.deleting:
        return "Deleting"
    if refused:
        return "Failed"
    if problems or progress.failures or progress.conflicts or "Degraded" in phases:
        return "Degraded"
    if progress.generation != subject.generation or progress.pending or "Pending" in phases:
        return "Reconciling"
    return "Running" if phases <= {"Running"} else "Deploying"
