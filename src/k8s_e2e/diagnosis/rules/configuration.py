"""Pods that wait for a ConfigMap, a Secret or a key that is not there."""

import re
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import CAUSE, Candidate, Facts
from k8s_e2e.diagnosis.pods import Pod
from k8s_e2e.model.story import Finding

_ABSENT = re.compile(r'(configmap|secret) "([^"]+)" not found', re.IGNORECASE)
_NO_KEY = re.compile(r"couldn't find key (\S+) in (ConfigMap|Secret) (\S+)", re.IGNORECASE)
_KINDS = {"configmap": "ConfigMap", "secret": "Secret"}


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield one candidate per workload and missing object or key."""
    seen: set[tuple[str, str]] = set()
    for pod in facts.pods:
        for since, message, pointer in _said(facts, pod):
            missing = _missing(message)
            about = pod.controller or pod.tracked.ref
            if missing and (about, missing) not in seen:
                seen.add((about, missing))
                finding = Finding(
                    id=f"config-missing:{about}/{missing.replace(' ', '/')}",
                    severity="error",
                    fault="product",
                    title=f"{about} needs {missing}, which does not exist",
                    object=about,
                    time=since,
                    detail=one_line(message),
                    because=[f"{pod.tracked.ref} cannot start a container"],
                    evidence=[pointer],
                    disproof=f"{missing} in k8s/resources.json before {since}",
                    next_command=f"grep -n {pod.name} k8s/events.txt",
                    fix=f"create {missing}, or mend the reference to it",
                )
                yield Candidate(finding, CAUSE, facts.around(pod.tracked), over=pod.ready_after(since))


def _said(facts: Facts, pod: Pod) -> Iterator[tuple[str, str, str]]:
    for container in pod.containers:
        for wait in container.waits:
            if wait.reason == "CreateContainerConfigError":
                yield wait.since, wait.message, wait.pointer
    for row in facts.events.get(pod.tracked.ref, []):
        if row.value.reason == "FailedMount":
            yield row.value.time, row.value.message, f"k8s/events.jsonl#L{row.line}"


def _missing(message: str) -> str:
    if key := _NO_KEY.search(message):
        return f"key {key[1]} of {key[2]}/{key[3].rpartition('/')[2]}"
    if absent := _ABSENT.search(message):
        return f"{_KINDS[absent[1].lower()]}/{absent[2].rpartition('/')[2]}"
    return ""
