"""Images that never got into a container: not found, no permission, never loaded, bad name."""

import re
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import CAUSE, Candidate, Facts
from k8s_e2e.diagnosis.pods import Container, Pod, Wait
from k8s_e2e.model.story import Fault, Finding

REASONS = ("ErrImageNeverPull", "InvalidImageName", "ImagePullBackOff", "ErrImagePull", "ImageInspectError")
_WHY = (
    ("never", re.compile(r"ErrImageNeverPull|not present with pull policy", re.IGNORECASE)),
    ("name", re.compile(r"InvalidImageName|invalid reference format|couldn't parse image", re.IGNORECASE)),
    ("platform", re.compile(r"no match for platform|exec format", re.IGNORECASE)),
    ("denied", re.compile(r"unauthorized|authentication required|denied|forbidden", re.IGNORECASE)),
    ("unreachable", re.compile(r"no such host|dial tcp|i/o timeout|connection refused|lookup ", re.IGNORECASE)),
    ("absent", re.compile(r"not found|manifest unknown|does not exist", re.IGNORECASE)),
)
_SAYS = {
    "never": ("is not in the node, and its pull policy is Never", "load the image into the cluster, or mend its name"),
    "name": ("is not a valid image name", "mend the image name where it is declared"),
    "platform": ("was not built for the node's architecture", "build the image for the node's platform"),
    "denied": ("may not be pulled: the registry refused", "give the pod an imagePullSecret, or use a public image"),
    "unreachable": ("cannot be pulled: its registry cannot be reached from the node",
                    "load the image into the cluster beforehand, or let the node reach the registry"),
    "absent": ("does not exist in its registry", "mend the image name or tag where it is declared, or push the image"),
    "": ("could not be pulled", "read the kubelet's message in the evidence"),
}  # fmt: skip


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield one candidate per workload and image that a kubelet could not get."""
    seen: set[tuple[str, str]] = set()
    for pod in facts.pods:
        for container in pod.containers:
            waits = [wait for reason in REASONS for wait in container.waits if wait.reason == reason]
            about = pod.controller or pod.tracked.ref
            if waits and (about, container.image) not in seen:
                seen.add((about, container.image))
                yield _candidate(facts, pod, container, waits, about)


def _candidate(facts: Facts, pod: Pod, container: Container, waits: list[Wait], about: str) -> Candidate:
    event = facts.last_event(pod.tracked.ref, "Failed", "ErrImageNeverPull", "InspectFailed")
    messages = [wait.message for wait in waits] + ([event.value.message] if event else [])
    said = max(messages, key=lambda text: (bool(_why(text)), len(text)), default="")
    why = next((_why(text) for text in [said, *messages, waits[0].reason] if _why(text)), "")
    is_wrong, fix = _SAYS[why]
    declared = facts.declared_by(container.image)
    loaded = any(image.reference == container.image for image in facts.observed.record.images)
    because = [f"{pod.tracked.ref}: container {container.name} waits ({waits[0].reason})"]
    if declared is not None:
        because.append(f"{declared.ref} asks for the image {container.image}")
    evidence = [waits[0].pointer, *([f"k8s/events.jsonl#L{event.line}"] if event else [])]
    fault: Fault = "infrastructure" if loaded or why == "unreachable" else "data" if declared else "product"
    finding = Finding(
        id=f"image-{why or 'pull'}:{about}",
        severity="error",
        fault=fault,
        title=f"Image {container.image} {is_wrong}",
        object=about,
        time=min(wait.since for wait in waits),
        detail=one_line(said),
        because=because,
        evidence=[*evidence, *([declared.pointer] if declared else [])],
        disproof=f"a pod of {about} that runs {container.image}",
        next_command=f"grep -n {pod.name} k8s/events.txt",
        fix=fix,
    )
    return Candidate(finding, CAUSE, facts.around(pod.tracked), over=pod.ready_after(finding.time))


def _why(text: str) -> str:
    return next((name for name, pattern in _WHY if pattern.search(text)), "")
