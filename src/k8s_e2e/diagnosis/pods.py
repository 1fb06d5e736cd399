"""What became of each pod: when it was created, scheduled, ready and gone, and every state its containers passed."""

from dataclasses import dataclass, field
from typing import Any

from k8s_e2e.diagnosis.objects import Objects, Revision, Tracked, condition, listing, mapping, stamp

_ON_ITS_WAY = ("ContainerCreating", "PodInitializing", "")


@dataclass(frozen=True)
class Wait:
    """A container that waited for ``reason``; ``since`` and ``until`` are when it was seen so first and last."""

    reason: str
    message: str
    since: str
    until: str
    pointer: str


@dataclass(frozen=True)
class Exit:
    """One run of a container that ended. ``stopping``: its pod was being deleted, so the end was asked for."""

    reason: str
    code: int
    signal: int
    message: str
    started: str
    finished: str
    stopping: bool
    pointer: str


@dataclass
class Container:
    """One container of a pod over all its runs."""

    name: str
    image: str
    init: bool = False
    ready: bool = False
    restarts: int = 0
    state: str = ""
    waits: list[Wait] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)


@dataclass
class Pod:
    """One pod over its whole life; times are RFC 3339, empty = not seen."""

    tracked: Tracked
    controller: str = ""  # the topmost workload that owns it, as Kind/name
    node: str = ""
    phase: str = ""
    created: str = ""
    scheduled: str = ""
    ready: list[tuple[str, str]] = field(default_factory=list)  # stretches of Ready; an open one ends in ""
    deleting: str = ""
    deleted: str = ""
    unschedulable: Wait | None = None
    containers: list[Container] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.tracked.name

    @property
    def is_ready(self) -> bool:
        """Whether it was ready when last seen."""
        return bool(self.ready) and not self.ready[-1][1]

    @property
    def restarts(self) -> int:
        """Restarts of all its containers."""
        return sum(container.restarts for container in self.containers)

    @property
    def finished(self) -> bool:
        """Whether it ended well, as pods of jobs do."""
        return self.phase == "Succeeded"

    @property
    def deleted_in_order(self) -> bool:
        """Whether it was ready when somebody deleted it, or still on its way there."""
        if not self.deleting:
            return False
        if self.ready:
            return not self.ready[-1][1] or self.ready[-1][1] >= self.deleting
        bad = [wait for container in self.containers for wait in container.waits if wait.reason not in _ON_ITS_WAY]
        return not bad and not any(end.code and not end.stopping for one in self.containers for end in one.exits)

    @property
    def problem(self) -> str:
        """What is wrong with it at the end, in a few words; empty = nothing."""
        if self.is_ready or self.finished or self.deleted_in_order:
            return ""
        if self.unschedulable and not self.scheduled:
            return f"unschedulable: {self.unschedulable.message}"
        for container in self.containers:
            if not container.ready and container.state.startswith(("waiting", "terminated")):
                return f"{container.name} {container.state}"
        return f"never ready ({self.phase or 'unknown'})" if not self.ready else "no longer ready"

    def ready_after(self, time: str) -> str:
        """Return the first moment after ``time`` at which it was ready, empty if there was none."""
        return next((max(since, time) for since, until in self.ready if not until or until > time), "")

    def stays_ready_after(self, time: str) -> str:
        """Return when it got ready after ``time`` and then stayed so to its end, empty if it did not.

        A container without a readiness probe is ready for a moment each time it is started.
        """
        if not self.ready or self.ready[-1][0] < time[:19]:
            return ""
        since, until = self.ready[-1]
        return since if not until or (self.deleting and until >= self.deleting) else ""


def pods(objects: Objects) -> list[Pod]:
    """Return every pod ever seen, oldest first."""
    return [_pod(objects, tracked) for tracked in objects.of("Pod")]


def _pod(objects: Objects, tracked: Tracked) -> Pod:
    chain = objects.owners(tracked)
    workloads = [owner for owner in chain if mapping(owner.last, "spec", "template")]
    direct = listing(tracked.last, "metadata", "ownerReferences")
    unseen = f"{direct[0].get('kind')}/{direct[0].get('name')}" if direct else ""
    pod = Pod(
        tracked,
        controller=workloads[-1].ref if workloads else unseen,
        node=str(mapping(tracked.last, "spec").get("nodeName") or ""),
        phase=str(mapping(tracked.last, "status").get("phase") or ""),
        created=tracked.created,
        deleted=tracked.deleted,
    )
    containers: dict[str, Container] = {}
    for revision in tracked.revisions:
        if revision.object:
            _read_pod(pod, revision)
            _read_containers(pod, containers, revision)
    if pod.is_ready and pod.deleted:
        pod.ready[-1] = (pod.ready[-1][0], pod.deleting or pod.deleted)
    pod.containers = list(containers.values())
    return pod


def _read_pod(pod: Pod, revision: Revision) -> None:
    deleting = mapping(revision.object, "metadata").get("deletionTimestamp")
    if deleting and not pod.deleting:
        pod.deleting = revision.seen or stamp(deleting)
    scheduled = condition(revision.object, "PodScheduled")
    if scheduled.get("status") == "True":
        pod.scheduled = pod.scheduled or stamp(scheduled.get("lastTransitionTime")) or revision.seen
    elif scheduled.get("status") == "False":
        since = pod.unschedulable.since if pod.unschedulable else revision.seen
        reason, message = str(scheduled.get("reason", "")), str(scheduled.get("message", ""))
        pod.unschedulable = Wait(reason, message, since, revision.seen, revision.pointer)
    ready = condition(revision.object, "Ready").get("status") == "True"
    if ready and not pod.is_ready:
        pod.ready.append((_moment(condition(revision.object, "Ready"), revision), ""))
    elif not ready and pod.is_ready:
        pod.ready[-1] = (pod.ready[-1][0], _moment(condition(revision.object, "Ready"), revision))


def _moment(entry: dict[str, Any], revision: Revision) -> str:
    """When a condition changed: our clock where we watched (microseconds), the server's seconds otherwise."""
    changed = stamp(entry.get("lastTransitionTime"))
    return revision.seen if revision.seen and revision.pointer.startswith("k8s/history") else changed or revision.seen


def _read_containers(pod: Pod, known: dict[str, Container], revision: Revision) -> None:
    for group, init in (("initContainers", True), ("containers", False)):
        for spec in listing(revision.object, "spec", group):
            name = str(spec.get("name", ""))
            known.setdefault(name, Container(name, str(spec.get("image", "")), init=init))
            known[name].image = str(spec.get("image", ""))
    for group, init in (("initContainerStatuses", True), ("containerStatuses", False)):
        for status in listing(revision.object, "status", group):
            name = str(status.get("name", ""))
            container = known.setdefault(name, Container(name, str(status.get("image", "")), init=init))
            container.ready = bool(status.get("ready"))
            restarts = status.get("restartCount")
            container.restarts = restarts if isinstance(restarts, int) else container.restarts
            _read_state(pod, container, mapping(status, "state"), revision, current=True)
            _read_state(pod, container, mapping(status, "lastState"), revision, current=False)


def _read_state(pod: Pod, container: Container, state: dict[str, Any], revision: Revision, *, current: bool) -> None:
    waiting, ended = mapping(state, "waiting"), mapping(state, "terminated")
    if waiting:
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        _add_wait(container, Wait(reason, message, revision.seen, revision.seen, revision.pointer))
        container.state = f"waiting: {reason}"
    elif ended:
        code, signal = _int(ended.get("exitCode")), _int(ended.get("signal"))
        one = Exit(
            str(ended.get("reason", "")),
            code,
            signal,
            str(ended.get("message", "")),
            stamp(ended.get("startedAt")),
            stamp(ended.get("finishedAt")) or revision.seen,
            bool(pod.deleting),
            revision.pointer,
        )
        if not any((other.finished, other.code) == (one.finished, one.code) for other in container.exits):
            container.exits.append(one)
        if current:
            container.state = f"terminated: {one.reason or 'ended'} ({code})"
    elif current and "running" in state:
        container.state = "running"


def _add_wait(container: Container, wait: Wait) -> None:
    for index, other in enumerate(container.waits):
        if other.reason == wait.reason:
            message = wait.message if len(wait.message) > len(other.message) else other.message
            pointer = wait.pointer if message != other.message else other.pointer
            container.waits[index] = Wait(wait.reason, message, other.since, wait.until, pointer)
            return
    container.waits.append(wait)


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0
