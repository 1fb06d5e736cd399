"""Containers that start and end: crash loops, out of memory, entrypoints that cannot be executed."""

import re
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import CAUSE, Candidate, Facts
from k8s_e2e.diagnosis.logs import LogLine, describe
from k8s_e2e.diagnosis.pods import Container, Exit, Pod
from k8s_e2e.model.story import Finding

_CANNOT_START = ("StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError")
_CODES = {
    1: "a general error", 2: "wrong usage, or a shell error", 126: "the command cannot be executed",
    127: "the command was not found", 134: "abort (SIGABRT)", 137: "killed (SIGKILL)",
    139: "segmentation fault (SIGSEGV)", 143: "asked to stop (SIGTERM)",
}  # fmt: skip
_LAST_ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Panic)\b.*|^panic: .*|^fatal\b.*", re.IGNORECASE)
_STOPPED = (137, 143)  # how a container ends that somebody else stopped
_STEADY = 3  # a container that restarted this often is in a loop, whatever it is at the moment


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield one candidate per workload and container that ended by itself."""
    seen: set[tuple[str, str]] = set()
    for pod in facts.pods:
        about = pod.controller or pod.tracked.ref
        for container in pod.containers:
            key = (about, f"{container.name} {container.image}")
            ends = [end for end in container.exits if not end.stopping and _wrong(pod, container, end)]
            if _killed_by_probe(facts, pod):
                ends = [end for end in ends if end.code not in _STOPPED or end.reason == "OOMKilled"]
            stuck = [wait for wait in container.waits if wait.reason in _CANNOT_START]
            if key not in seen and (ends or stuck):
                seen.add(key)
                yield (
                    _crashed(facts, pod, container, ends, about) if ends else _unstartable(facts, pod, container, about)
                )


def _killed_by_probe(facts: Facts, pod: Pod) -> bool:
    """Whether the kubelet said that it kills a container for its probe: then the probe is the finding."""
    said = facts.events.get(pod.tracked.ref, [])
    return any(row.value.reason == "Killing" and "probe" in row.value.message for row in said)


def _wrong(pod: Pod, container: Container, end: Exit) -> bool:
    if end.code != 0 or end.reason in ("OOMKilled", *_CANNOT_START):
        return True
    return container.restarts > 0 and not container.init and not pod.controller.startswith(("Job/", "CronJob/"))


def _crashed(facts: Facts, pod: Pod, container: Container, ends: list[Exit], about: str) -> Candidate:
    oom = next((end for end in ends if end.reason == "OOMKilled"), None)
    end = oom or ends[0]
    words = facts.last_words(pod.name, container.name)
    telling = _telling(words)
    what = f"Container {container.name} of {about}"
    if oom:
        rule, title, fix = "oom", f"{what} ran out of memory", "raise its memory limit, or let it use less"
    elif end.reason in _CANNOT_START or end.code in (126, 127, 128):
        rule, title = "entrypoint", f"{what} cannot be started"
        fix = "mend the command or entrypoint, or the permissions of the program in the image"
    else:
        rule, title = "crash", f"{what} exits with {end.code}{_meaning(end)}"
        fix = f"mend what its last words name: {one_line(describe(telling), 160)}" if telling else "read its log"
    said = describe(telling) if telling else end.message
    finding = Finding(
        id=f"{rule}:{about}/{container.name}",
        severity="error",
        fault="product",
        title=one_line(f"{title}{': ' + one_line(said, 160) if said else ''}"),
        object=about,
        time=end.finished,
        detail=one_line(
            f"image {container.image}, {container.restarts} restart(s); {end.reason or 'ended'} "
            f"with exit code {end.code}; {said or 'it left no last words'}"
        ),
        because=[f"{pod.tracked.ref}: {container.state or 'ended'}, {container.restarts} restart(s)"],
        evidence=[end.pointer, *([telling.pointer] if telling else [])],
        disproof=f"a run of {container.name} with image {container.image} that stayed up",
        next_command=f"tail -n 40 {_file(telling)}" if telling else f"grep -n {pod.name} k8s/events.txt",
        fix=fix,
    )
    last = ends[-1].finished
    over = last if pod.finished else pod.stays_ready_after(last) if container.restarts < _STEADY else ""
    return Candidate(finding, CAUSE, facts.around(pod.tracked), over=over)


def _unstartable(facts: Facts, pod: Pod, container: Container, about: str) -> Candidate:
    wait = next(wait for wait in container.waits if wait.reason in _CANNOT_START)
    finding = Finding(
        id=f"entrypoint:{about}/{container.name}",
        severity="error",
        fault="product",
        title=f"Container {container.name} of {about} cannot be started",
        object=about,
        time=wait.since,
        detail=one_line(wait.message),
        because=[f"{pod.tracked.ref}: container {container.name} waits ({wait.reason})"],
        evidence=[wait.pointer],
        disproof=f"a run of {container.name} with image {container.image}",
        next_command=f"grep -n {pod.name} k8s/events.txt",
        fix="mend the command, mount or security setting that the runtime's message names",
    )
    return Candidate(finding, CAUSE, facts.around(pod.tracked), over=pod.ready_after(wait.since))


def _telling(words: list[LogLine]) -> LogLine | None:
    """The line that says why: the last exception, else the last error, else the last line."""
    thrown = [line for line in words if _LAST_ERROR.match(line.message)]
    errors = [line for line in words if line.level == "error"]
    telling = thrown or errors or words
    return telling[-1] if telling else None


def _meaning(end: Exit) -> str:
    return f" ({_CODES[end.code]})" if end.code in _CODES else ""


def _file(line: LogLine) -> str:
    return line.pointer.partition("#")[0]
