"""Whether Deployments, StatefulSets and DaemonSets are rolled out, why not, and when waiting longer is of no use."""

import re
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from k8s_e2e.base.errors import ExpectationError, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.mirror import Mirror
from k8s_e2e.platform.pod_state import SETTLE_S, age_s, hopeless, trouble

TICK_S = 0.5  # time-dependent states are looked at this often even if nothing changes
SETS = ("StatefulSet", "DaemonSet")  # looked at where the platform has some: not everybody may read all
KINDS = (("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("v1", "Pod"), ("v1", "Event"))

_PORT = re.compile(r"(?:(?<=\.\d)|(?<=\.\d\d)|(?<=\.\d\d\d)|(?<=[0-9a-f:]\])):\d+")  # of an IPv4 or [IPv6] address
_REFUSED = ("exceeded quota", "forbidden", "denied", "is invalid")

Object = dict[str, Any]


class RolloutFailed(ExpectationError):
    """A workload is in a state that waiting does not mend."""


class State(NamedTuple):
    """How far one workload is. ``words`` is one line; ``hopeless`` says why waiting is of no use, or is empty."""

    done: bool
    words: str
    hopeless: str = ""


def wait_rollout(
    kube: Kube, namespace: str, *, timeout_s: float, progress: Progress, kinds: Collection[str] = ()
) -> None:
    """Wait until every Deployment of the namespace is current and available; those of `SETS` in ``kinds``, too.

    Raises:
        RolloutFailed: one of them is in a hopeless state: which, and why.
        WaitTimeout: ``timeout_s`` passed; it says of each one that is not done where it hangs.
    """
    sets = [kind for kind in SETS if kind in kinds]
    hint = f"kubectl get pods,events --namespace {namespace}"
    deadline = time.monotonic() + timeout_s
    said: dict[str, str] = {}
    with Mirror(kube, namespace, (*KINDS, *(("apps/v1", kind) for kind in sets))) as mirror:
        while True:
            version = mirror.version
            states = _states(mirror, time.time()) if mirror.synced else {}
            tell(states, said, progress)
            lost = [state.hopeless for state in states.values() if state.hopeless]
            if lost:
                raise RolloutFailed("; ".join(lost), hint=hint)
            open_ones = [state.words for state in states.values() if not state.done]
            open_ones += [f"cannot read {kind}s: {error}" for kind, error in sorted(mirror.errors.items())]
            if mirror.synced and not open_ones:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                what = f"the {'workloads' if sets else 'deployments'} in namespace {namespace} to be available"
                raise WaitTimeout(what, timeout_s=timeout_s, last="; ".join(open_ones), hint=hint)
            mirror.changed(version, min(left, TICK_S))


def tell(states: Mapping[str, State], said: dict[str, str], progress: Progress) -> None:
    """Say of each workload what differs from what was ``said`` of it last, but for the ports of addresses.

    Each try to reach a registry has another local port, and tells nothing new.
    """
    for name, state in states.items():
        words = _PORT.sub("", state.words)
        if said.get(name) != words:
            progress(state.words)
        said[name] = words


def _states(mirror: Mirror, now_s: float) -> dict[str, State]:
    replica_sets, pods, events = mirror.objects("ReplicaSet"), mirror.objects("Pod"), mirror.objects("Event")
    states = {
        f"Deployment/{each['metadata']['name']}": rollout_state(each, replica_sets, pods, events, now_s=now_s)
        for each in mirror.objects("Deployment")
    }
    for kind in SETS:
        for each in mirror.objects(kind):
            state = set_state({**each, "kind": kind}, pods, events, now_s=now_s)  # items of a list do not say theirs
            states[f"{kind}/{each['metadata']['name']}"] = state
    return dict(sorted(states.items()))


def rollout_state(
    deployment: Object,
    replica_sets: Iterable[Object],
    pods: Iterable[Object],
    events: Iterable[Object] = (),
    *,
    now_s: float,
) -> State:
    """Say how far a Deployment is: done means observed, all replicas of the new template available, no old ones.

    Args:
        deployment: the live object.
        replica_sets: those of the namespace; the Deployment's own are found by owner.
        pods: those of the namespace.
        events: those of the namespace (core/v1).
        now_s: epoch seconds; some refusals count only once they have lasted.
    """
    metadata, spec, status = deployment["metadata"], deployment.get("spec", {}), deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    available, updated = status.get("availableReplicas", 0), status.get("updatedReplicas", 0)
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    head = f"{metadata['name']}: {min(available, updated)}/{wanted} available"
    if current and updated == wanted == status.get("replicas", 0) and available >= wanted:
        return State(done=True, words=head)
    conditions = {cond["type"]: cond for cond in status.get("conditions", ())}
    new = _newest(deployment, replica_sets)
    own = [pod for pod in pods if new and _owned(pod, new)]
    told = list(events)
    reasons = [reason for pod in own if (reason := hopeless(pod, told, now_s=now_s))]
    if reasons:
        return State(done=False, words=f"{head}: {reasons[0]}", hopeless=f"{head}: {reasons[0]}")
    if not current:
        return State(done=False, words=f"{head}: its latest change has not been observed by the controller")
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        words = f"{head}: no pod can be made: {failure.get('message', '')}"
        lasting = age_s(failure.get("lastTransitionTime", ""), now_s) >= SETTLE_S
        lost = lasting and any(word in failure.get("message", "") for word in _REFUSED)
        return State(done=False, words=words, hopeless=words if lost else "")
    hangs = trouble(own, told) or _leftover(status, updated, wanted)
    progressing = conditions.get("Progressing", {})
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        words = f"{head}: its progress deadline ({spec.get('progressDeadlineSeconds', 600)} s) is over: {hangs}"
        return State(done=False, words=words, hopeless=words)
    return State(done=False, words=f"{head}: {hangs}")


def set_state(workload: Object, pods: Iterable[Object], events: Iterable[Object] = (), *, now_s: float) -> State:
    """Say how far a StatefulSet or DaemonSet is: done means observed, and all its pods are new and available.

    With the update strategy OnDelete old pods count, too: nobody replaces them. Arguments as of `rollout_state`.
    """
    metadata, spec, status = workload["metadata"], workload.get("spec", {}), workload.get("status", {})
    if workload["kind"] == "DaemonSet":
        wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
        updated = status.get("updatedNumberScheduled", 0)
    else:
        wanted, available = spec.get("replicas", 1), status.get("availableReplicas", 0)
        updated = status.get("updatedReplicas", 0)
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        updated = wanted
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    head = f"{metadata['name']}: {min(available, updated)}/{wanted} available"
    if current and updated >= wanted and available >= wanted:
        return State(done=True, words=head)
    own, told = [pod for pod in pods if _owned(pod, workload)], list(events)
    lost = next((reason for pod in own if (reason := hopeless(pod, told, now_s=now_s))), "")
    hangs = lost or trouble(own, told) or f"{updated}/{wanted} pods updated"
    return State(done=False, words=f"{head}: {hangs}", hopeless=f"{head}: {lost}" if lost else "")


def _leftover(status: Object, updated: int, wanted: int) -> str:
    old = status.get("replicas", 0) - updated
    if old > 0:
        return f"{old} pods of the old template are still there"
    return f"{updated}/{wanted} replicas updated" if updated != wanted else "the controller has not counted yet"


def _newest(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """Return the ReplicaSet of the current template: the one with the highest revision."""
    own = [each for each in replica_sets if _owned(each, deployment)]
    return max(own, key=_revision, default=None)


def _revision(replica_set: Object) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "0")
    return int(text) if text.isdigit() else 0


def _owned(obj: Object, owner: Object) -> bool:
    references = obj["metadata"].get("ownerReferences", ())
    return any(reference.get("uid") == owner["metadata"]["uid"] for reference in references)
