"""Whether Deployments are rolled out, why not, and when waiting longer is of no use."""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from k8s_e2e.base.clock import epoch
from k8s_e2e.base.errors import ExpectationError, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.mirror import Mirror

CRASHES = 3  # a container that crashed so often is not waited for
PULLS = 3  # likewise an image that failed to be pulled so often, for whatever reason
PROBES = 15  # failed probes before they are worth telling
LAST_LINE = 300  # characters told of the last line that a container said
SETTLE_S = 3.0  # refusals that may pass (a ConfigMap or ServiceAccount that is being made) must last this long
TICK_S = 0.5  # time-dependent states are looked at this often even if nothing changes
KINDS = (("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("v1", "Pod"), ("v1", "Event"))

_NO_SUCH_IMAGE = (
    "not found",
    "manifest unknown",
    "does not exist",
    "pull access denied",
    "invalid reference format",
)
_NO_PROGRAM = ("no such file or directory", "executable file not found", "permission denied", "exec format error")
_REFUSED = ("exceeded quota", "forbidden", "denied", "is invalid")

Object = dict[str, Any]


class RolloutFailed(ExpectationError):
    """A Deployment is in a state that waiting does not mend."""


class State(NamedTuple):
    """How far one Deployment is. ``words`` is one line; ``hopeless`` says why waiting is of no use, or is empty."""

    done: bool
    words: str
    hopeless: str = ""


def wait_rollout(kube: Kube, namespace: str, *, timeout_s: float, progress: Progress) -> None:
    """Wait until every Deployment of the namespace is current and available.

    Raises:
        RolloutFailed: one of them is in a hopeless state: which, and why.
        WaitTimeout: ``timeout_s`` passed; it says of each Deployment that is not done where it hangs.
    """
    hint = f"kubectl get pods,events --namespace {namespace}"
    deadline = time.monotonic() + timeout_s
    said: dict[str, str] = {}
    with Mirror(kube, namespace, KINDS) as mirror:
        while True:
            version = mirror.version
            states = _states(mirror, time.time()) if mirror.synced else {}
            for name, state in states.items():
                if said.get(name) != state.words:
                    progress(state.words)
                said[name] = state.words
            lost = [state.hopeless for state in states.values() if state.hopeless]
            if lost:
                raise RolloutFailed("; ".join(lost), hint=hint)
            open_ones = [state.words for state in states.values() if not state.done]
            open_ones += [f"cannot read {kind}s: {error}" for kind, error in sorted(mirror.errors.items())]
            if mirror.synced and not open_ones:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                what = f"the deployments in namespace {namespace} to be available"
                raise WaitTimeout(what, timeout_s=timeout_s, last="; ".join(open_ones), hint=hint)
            mirror.changed(version, min(left, TICK_S))


def _states(mirror: Mirror, now_s: float) -> dict[str, State]:
    sets, pods, events = mirror.objects("ReplicaSet"), mirror.objects("Pod"), mirror.objects("Event")
    deployments = sorted(mirror.objects("Deployment"), key=lambda obj: str(obj["metadata"]["name"]))
    return {
        deployment["metadata"]["name"]: rollout_state(deployment, sets, pods, events, now_s=now_s)
        for deployment in deployments
    }


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
        lasting = _age_s(failure.get("lastTransitionTime", ""), now_s) >= SETTLE_S
        lost = lasting and any(word in failure.get("message", "") for word in _REFUSED)
        return State(done=False, words=words, hopeless=words if lost else "")
    trouble = _trouble(own, told) or _leftover(status, updated, wanted)
    progressing = conditions.get("Progressing", {})
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        words = f"{head}: its progress deadline ({spec.get('progressDeadlineSeconds', 600)} s) is over: {trouble}"
        return State(done=False, words=words, hopeless=words)
    return State(done=False, words=f"{head}: {trouble}")


def hopeless(
    pod: Object, events: Iterable[Object] = (), *, now_s: float | None = None, crashes: int = CRASHES
) -> str | None:
    """Return why a pod will not become ready by waiting, in one line that names it; None while it may.

    Hopeless are: an image that is not there and never pulled, an invalid image name, an image that no registry has (or
    `PULLS` failed pulls, counted in ``events``), a container that cannot be configured for `SETTLE_S` seconds, a
    program that is not in its image, a container that crashed ``crashes`` times, and a pod that its node rejected.

    Args:
        pod: the live object.
        events: core/v1 Events; others than the pod's are left out.
        now_s: epoch seconds; without it nothing is old enough.
        crashes: how often a container may have ended.
    """
    name, status = pod["metadata"]["name"], pod.get("status", {})
    lasts = now_s is not None and _age_s(status.get("startTime", ""), now_s) >= SETTLE_S
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        why = ""
        if _cannot_start(container) or _between_crashes(container, crashes):
            return f"pod {name}: {_crash(container)}"
        if reason in ("ErrImageNeverPull", "InvalidImageName"):
            why = message or container.get("image", "")
        elif reason in ("ImagePullBackOff", "ErrImagePull"):
            why = _no_image(container, message, _of(pod, events))
        elif reason == "CreateContainerConfigError" and lasts:
            why = message or "unknown"
        elif reason == "CrashLoopBackOff" and container.get("restartCount", 0) + 1 >= crashes:
            why = _crash(container)
        if why:
            return f"pod {name} is {reason}: {why}"
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"pod {name} has failed: {status['reason']}: {status.get('message', '')}"
    return None


def _between_crashes(container: Object, crashes: int) -> bool:
    """Whether a container has just crashed again: a kubelet may show that, and no waiting, until the next start."""
    ended = container.get("state", {}).get("terminated") or {}
    return bool(ended.get("exitCode")) and container.get("restartCount", 0) + 1 >= crashes


def describe_pod(pod: Object, events: Iterable[Object] = ()) -> str:
    """Say in one line what keeps a pod from being ready; empty if it is ready."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    conditions = {cond["type"]: cond for cond in status.get("conditions", ())}
    if "deletionTimestamp" in pod["metadata"]:
        return f"pod {name} is going away"
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"pod {name} is not scheduled: {scheduled.get('message', '')}"
    running = status.get("phase") == "Running"
    warning = _newest_warning(_of(pod, events), probes=running)
    for container in _containers(status):
        if words := _container_trouble(container, warning, init=container in status.get("initContainerStatuses", ())):
            return f"pod {name}{words}"
    state = "running but not ready" if running else status.get("phase", "new")
    return f"pod {name} is {state}" + (f": {warning}" if warning else "")


def _container_trouble(container: Object, warning: str, *, init: bool) -> str:
    """Say what is wrong with one container, as it follows the pod's name; empty if it runs or has done its part."""
    waiting, ended = container.get("state", {}).get("waiting"), container.get("state", {}).get("terminated")
    if waiting and waiting.get("reason") == "CrashLoopBackOff":
        return f" is CrashLoopBackOff: {_crash(container)}"
    if waiting:
        words = waiting.get("message") or warning
        return f" is {waiting.get('reason', 'waiting')}" + (f": {words}" if words else "")
    if ended and (ended.get("exitCode") or not init):
        return f": {_crash(container)}"
    return ""


def _trouble(pods: list[Object], events: list[Object]) -> str:
    if not pods:
        return "no pod yet"
    told = [
        words
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
        if (words := describe_pod(pod, events))
    ]
    return told[0] if told else ""


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


def _containers(status: Object) -> list[Object]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _of(pod: Object, events: Iterable[Object]) -> list[Object]:
    uid = pod["metadata"].get("uid")
    return [event for event in events if event.get("involvedObject", {}).get("uid") == uid]


def _newest_warning(events: list[Object], *, probes: bool) -> str:
    """Return the message of the newest warning: of a running container's probes, or of all but probes.

    The first few probes of a container that has just begun always fail: they are not told.
    """
    warnings = [
        event
        for event in events
        if event.get("type") == "Warning" and (event.get("reason") == "Unhealthy") == probes
        if not probes or event.get("count", 1) >= PROBES
    ]
    newest = max(warnings, key=_seen, default={})
    return " ".join(str(newest.get("message", "")).split())


def _seen(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _no_image(container: Object, message: str, events: list[Object]) -> str:
    """Say why an image will not come; empty while it may. What the registry said is in the message or an event."""
    failed = [event for event in events if event.get("reason") == "Failed" and "pull" in event.get("message", "")]
    told = [event["message"] for event in failed if event["message"].startswith("Failed to pull image")]
    why = " ".join(told[-1].split()) if told else message
    tries = sum(event.get("count", 1) for event in failed)
    lost = tries >= PULLS or any(word in why for word in _NO_SUCH_IMAGE)
    return f"image {container.get('image', '')}: {why}" if lost else ""


def _crash(container: Object) -> str:
    ended = (container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")) or {}
    words = f"container {container.get('name')} ended with exit code {ended.get('exitCode', 'unknown')}"
    if ended.get("reason") not in (None, "Error", "Completed"):
        words += f" ({ended['reason']})"
    said = str(ended.get("message", "")).strip().splitlines()
    if said:
        words += f": {said[-1].strip()[:LAST_LINE]}"
    times = container.get("restartCount", 0)
    return f"{words}, restarted {times} times" if times else words


def _cannot_start(container: Object) -> bool:
    """Say whether the program of a container is not in its image, or is none: a restart does not mend that."""
    ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated") or {}
    told = ended.get("message", "")
    return ended.get("reason") in ("StartError", "ContainerCannotRun") and any(word in told for word in _NO_PROGRAM)


def _age_s(since: str, now_s: float) -> float:
    with suppress(ValueError):
        return now_s - epoch(since)
    return 0.0
