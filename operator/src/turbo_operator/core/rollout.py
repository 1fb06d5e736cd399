"""How far each component is, judged by what the API server shows of its objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.desired import Object, ObjectKey, object_keys
from turbo_operator.core.graph import Component, RefusedComponent

SIMULATED = "simulated: OPERATOR_MODE=dev writes nothing and runs nothing"
NOT_COMPARED = "not yet compared with the cluster"
_LOST = "after all were available"
_UNDER_WAY = frozenset({"NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated"})
"""Reasons of a Deployment's Progressing condition while its newest pods were never all available."""

Verdict = tuple[str, str]
"""Phase and message."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the writer knows and the API server does not show.

    Attributes:
        generation: Generation of the APIGraph that was planned or refused last; 0 before the first.
        pending: Objects that differ from that plan and were not yet written successfully, with the reason.
        failures: Objects whose last write failed, with the message.
        conflicts: Objects that belong to others, with the message.
        judged: Generation of each Deployment when it was found or made equal to the plan.
    """

    generation: int
    pending: Mapping[ObjectKey, str] = field(default_factory=dict)
    failures: Mapping[ObjectKey, str] = field(default_factory=dict)
    conflicts: Mapping[ObjectKey, str] = field(default_factory=dict)
    judged: Mapping[ObjectKey, int] = field(default_factory=dict)


def component_status(
    component: Component,
    observed: Mapping[ObjectKey, Object],
    progress: Progress,
    *,
    generation: int,
    ran_at: int | None,
    simulated: bool,
) -> dict[str, Any]:
    """The row of one component in `componentStatuses`.

    Args:
        component: What it should be.
        observed: Slim objects by key.
        progress: State of the writer.
        generation: `metadata.generation` of the APIGraph the row speaks of.
        ran_at: Generation of its Deployment when all replicas were last available. What is missing at the same
            generation was lost; at a later one it is awaited, whoever changed the Deployment.
        simulated: Nothing runs in truth; said in the message.
    """
    keys = object_keys(component.name)
    deployment = observed.get(keys[2], {})
    early = _trouble(keys, progress) or _outstanding(keys, observed, progress, generation)
    phase, message = early or rollout(deployment, component.replicas)
    now_at = deployment.get("metadata", {}).get("generation")
    if phase == "Running":
        ran_at = now_at
    ran = ran_at is not None and ran_at == now_at
    if phase == "Deploying" and ran and _lacks_replicas(deployment, component.replicas):
        phase, message = "Degraded", f"{message}, {_LOST}"
    if early is None and phase != "Running" and (deployment.get("status") or {}).get("unavailableReplicas"):
        message += f"; why is in the pods: kubectl get pods -l {names.LABEL_COMPONENT}={component.name}"
    if simulated and phase == "Running":
        message = SIMULATED
    row = _row(component, component.replicas, keys, deployment, (phase, message))
    if phase != "Conflict" and ran:
        row["availableGeneration"] = ran_at
    return row


def refused_status(component: RefusedComponent, observed: Mapping[ObjectKey, Object]) -> dict[str, Any]:
    """The row of a component that cannot be used."""
    keys = object_keys(component.name)
    message = component.message
    if any(key in observed for key in keys):
        message += " (what an earlier version made is left as it is)"
    deployment = observed.get(keys[2])
    replicas = (deployment or {}).get("spec", {}).get("replicas") or 0
    return _row(component, replicas, keys, deployment, ("Refused", message))


def rollout(deployment: Mapping[str, Any], replicas: int) -> Verdict:
    """How far a Deployment is, by its own status: the tests of `kubectl rollout status`.

    Returns:
        Running and an empty message, or Deploying or Degraded and what is missing.
    """
    state = deployment.get("status") or {}
    if (state.get("observedGeneration") or 0) < deployment["metadata"].get("generation", 0):
        return "Deploying", "the Deployment controller has not seen the newest generation"
    total, updated = state.get("replicas") or 0, state.get("updatedReplicas") or 0
    available = state.get("availableReplicas") or 0
    waiting = state.get("unavailableReplicas") or 0
    out = f"{waiting} of {_count(total, 'pod')} {'is' if waiting == 1 else 'are'} not available"
    if updated < replicas:
        missing = f"{updated} of {replicas} replicas are updated" + (f", and {out}" if waiting and updated else "")
    elif total > updated:
        missing = f"{_count(total - updated, 'old pod')} {'is' if total - updated == 1 else 'are'} still there"
        missing = f"{out}, so that {missing}" if waiting else missing
    elif available < replicas:
        missing = f"{available} of {replicas} replicas are available"
    else:
        return "Running", ""
    if (deployment.get("spec") or {}).get("paused"):
        missing += "; the Deployment is paused"
    for condition in state.get("conditions") or ():
        if (condition.get("type"), condition.get("status")) in {("ReplicaFailure", "True"), ("Progressing", "False")}:
            return "Degraded", f"{missing}; {condition.get('reason')}: {condition.get('message')}"
    return "Deploying", missing


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _lacks_replicas(deployment: Mapping[str, Any], replicas: int) -> bool:
    """Whether fewer are available than wanted, by a status that speaks of no earlier object, nor of a rollout."""
    state = deployment.get("status") or {}
    under_way = any(
        condition.get("type") == "Progressing" and condition.get("reason") in _UNDER_WAY
        for condition in state.get("conditions") or ()
    )
    seen = (state.get("observedGeneration") or 0) >= deployment["metadata"]["generation"]
    return seen and not under_way and (state.get("availableReplicas") or 0) < replicas


def _trouble(keys: tuple[ObjectKey, ...], progress: Progress) -> Verdict | None:
    for phase, messages in (("Conflict", progress.conflicts), ("Failed", progress.failures)):
        for key in keys:
            if key in messages:
                return phase, f"{key[0]} {key[1]}: {messages[key]}"
    return None


def _outstanding(
    keys: tuple[ObjectKey, ...], observed: Mapping[ObjectKey, Object], progress: Progress, generation: int
) -> Verdict | None:
    if progress.generation != generation:
        return "Pending", NOT_COMPARED
    for key in keys:
        present = observed.get(key)
        if key in progress.pending:
            return "Pending", f"{key[0]} {key[1]}: {progress.pending[key]}"
        if present is None:
            return "Pending", f"{key[0]} {key[1]} does not exist"
        if present["metadata"].get("deletionTimestamp"):
            return "Pending", f"{key[0]} {key[1]} is being deleted"
    if progress.judged.get(keys[2]) != observed[keys[2]]["metadata"].get("generation"):
        return "Pending", f"Deployment {keys[2][1]} changed and is not yet compared with the graph"
    return None


def _row(
    component: Component | RefusedComponent,
    replicas: int,
    keys: tuple[ObjectKey, ...],
    deployment: Mapping[str, Any] | None,
    verdict: Verdict,
) -> dict[str, Any]:
    phase, message = verdict
    state = (deployment or {}).get("status") or {}
    row = {
        "packageName": component.package_name,
        "packageVersion": component.package_version,
        "artifactHash": component.artifact_hash,
        "phase": phase,
        "replicas": replicas,
        "availableReplicas": 0 if phase == "Conflict" else state.get("availableReplicas") or 0,
        "configMap": keys[0][1],
        "service": keys[1][1],
        "deployment": keys[2][1],
    }
    if message:
        row["message"] = message
    return row
