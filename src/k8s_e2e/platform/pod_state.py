"""What keeps a pod from being ready, and when waiting longer is of no use."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from k8s_e2e.base.clock import epoch

CRASHES = 3  # a container that crashed so often is not waited for
PULLS = 3  # likewise an image that failed to be pulled so often, for whatever reason
PROBES = 15  # failed probes before they are worth telling
LAST_LINE = 300  # characters told of the last line that a container said
SETTLE_S = 3.0  # refusals that may pass (a ConfigMap or ServiceAccount that is being made) must last this long

_NO_SUCH_IMAGE = (
    "not found",
    "manifest unknown",
    "does not exist",
    "pull access denied",
    "invalid reference format",
)
_NO_PROGRAM = ("no such file or directory", "executable file not found", "permission denied", "exec format error")

Object = dict[str, Any]


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
    lasts = now_s is not None and age_s(status.get("startTime", ""), now_s) >= SETTLE_S
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


def trouble(pods: list[Object], events: list[Object]) -> str:
    """Say what keeps the first of ``pods`` that is not ready from it; empty if all are."""
    if not pods:
        return "no pod yet"
    told = [
        words
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
        if (words := describe_pod(pod, events))
    ]
    return told[0] if told else ""


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


def age_s(since: str, now_s: float) -> float:
    """Return how many seconds ago ``since`` (RFC 3339) was; 0 where it is no time."""
    with suppress(ValueError):
        return now_s - epoch(since)
    return 0.0
