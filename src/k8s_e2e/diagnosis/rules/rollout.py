"""Deployments that do not get available: the consequence that other findings explain."""

from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import CAUSE, CONSEQUENCE, Candidate, Facts
from k8s_e2e.diagnosis.objects import Tracked, condition, mapping, stamp
from k8s_e2e.model.story import Finding


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield one candidate per Deployment or StatefulSet that was not as it should be when last seen."""
    for workload in facts.objects.of("Deployment", "StatefulSet"):
        if workload.deleted or mapping(workload.last, "metadata").get("deletionTimestamp"):
            continue
        spec, status = mapping(workload.last, "spec"), mapping(workload.last, "status")
        wanted = spec.get("replicas", 1)
        if wanted == 0:
            if workload.name in facts.failure_text:
                yield _scaled_to_zero(facts, workload)
            continue
        available, updated = status.get("availableReplicas", 0), status.get("updatedReplicas", 0)
        if available >= wanted and updated >= wanted and not status.get("unavailableReplicas"):
            continue
        yield _unavailable(facts, workload, f"{available} of {wanted} replicas available, {updated} updated")


def _unavailable(facts: Facts, workload: Tracked, state: str) -> Candidate:
    progressing = condition(workload.last, "Progressing")
    failure = condition(workload.last, "ReplicaFailure")
    late = progressing.get("reason") == "ProgressDeadlineExceeded"
    pods = [pod for pod in facts.pods if pod.controller == workload.ref and not pod.deleted]
    problems = [f"{pod.tracked.ref}: {one_line(pod.problem, 160)}" for pod in pods if pod.problem]
    said = str(failure.get("message") or progressing.get("message") or "")
    finding = Finding(
        id=f"rollout:{workload.ref}",
        severity="error",
        fault="unknown",
        title=f"{workload.ref} is not available: {state}{' (progress deadline exceeded)' if late else ''}",
        object=workload.ref,
        time=stamp(progressing.get("lastUpdateTime")) or workload.created,
        detail=one_line("; ".join([*problems, said] if problems or said else ["no pod of it was seen"])),
        because=problems[:3] or [f"{workload.ref} has no pod"],
        evidence=[workload.pointer, *[pod.tracked.pointer for pod in pods if pod.problem][:2]],
        disproof="the same Deployment with all replicas available later in the run",
        next_command=f"grep -n {workload.name} k8s/events.txt",
        fix="the pods' own states say why; see the evidence",
    )
    return Candidate(finding, CONSEQUENCE, facts.around(workload))


def _scaled_to_zero(facts: Facts, workload: Tracked) -> Candidate:
    finding = Finding(
        id=f"scaled-to-zero:{workload.ref}",
        severity="error",
        fault="product",
        title=f"{workload.ref} asks for 0 replicas",
        object=workload.ref,
        time=workload.created,
        because=[f"{workload.ref} has no pod because none is wanted"],
        evidence=[workload.pointer],
        disproof="another value of spec.replicas while the step ran",
        next_command=f"grep -n {workload.name} k8s/events.txt",
        fix="scale it up, or find who scaled it down (managedFields)",
    )
    return Candidate(finding, CAUSE, facts.around(workload))
