"""Pods that no node takes, and pods that are never created: resources, taints, quota, admission."""

import re
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import CAUSE, Candidate, Facts
from k8s_e2e.model.evidence import EventRevision
from k8s_e2e.model.story import Finding

_REFUSED = (
    ("quota", re.compile(r"exceeded quota", re.IGNORECASE), "raise the ResourceQuota, or ask for less"),
    ("limit-range", re.compile(r"(?:maximum|minimum) \w+ usage per", re.IGNORECASE), "keep within the LimitRange"),
    ("pod-security", re.compile(r"violates PodSecurity", re.IGNORECASE), "add the security settings that it names"),
    ("webhook", re.compile(r"admission webhook|failed calling webhook", re.IGNORECASE), "mend the webhook it names"),
    ("forbidden", re.compile(r"forbidden", re.IGNORECASE), "grant what the message says is missing"),
)


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield pods that were never scheduled, and workloads whose pods were refused."""
    yield from _unschedulable(facts)
    yield from _refused(facts)


def _unschedulable(facts: Facts) -> Iterator[Candidate]:
    seen: set[str] = set()
    for pod in facts.pods:
        about = pod.controller or pod.tracked.ref
        if pod.unschedulable is None or about in seen:
            continue
        seen.add(about)
        why = one_line(pod.unschedulable.message, 200)
        finding = Finding(
            id=f"unschedulable:{about}",
            severity="error",
            fault="infrastructure" if "Insufficient" in why else "product",
            title=one_line(f"No node takes a pod of {about}: {why}"),
            object=about,
            time=pod.unschedulable.since,
            detail=why,
            because=[f"{pod.tracked.ref} is Pending ({pod.unschedulable.reason})"],
            evidence=[pod.unschedulable.pointer],
            disproof="a node name in the pod's spec",
            next_command=f"grep -n {pod.name} k8s/events.txt",
            fix="lower the pod's requests, or give the cluster what the scheduler's message asks for",
        )
        yield Candidate(finding, CAUSE, facts.around(pod.tracked), over=pod.scheduled)


def _refused(facts: Facts) -> Iterator[Candidate]:
    for ref, rows in facts.events.items():
        kind, _, name = ref.partition("/")
        failed = [row for row in rows if row.value.reason == "FailedCreate"]
        tracked = facts.objects.find(kind, name)
        if not failed or tracked is None:
            continue
        last = failed[-1]
        rule, fix = _reason(last.value)
        owners = facts.objects.owners(tracked)
        about = owners[-1].ref if owners else ref
        created = facts.last_event(ref, "SuccessfulCreate")
        finding = Finding(
            id=f"{rule}:{about}",
            severity="error",
            fault="product",
            title=one_line(f"No pod of {about} can be created: {last.value.message}", 200),
            object=about,
            time=failed[0].value.time,
            detail=one_line(last.value.message),
            because=[f"{ref} has no pod"],
            evidence=[f"k8s/events.jsonl#L{last.line}"],
            disproof=f"a pod owned by {ref} after that time",
            next_command=f"grep -n {name} k8s/events.txt",
            fix=fix,
        )
        yield Candidate(
            finding,
            CAUSE,
            facts.around(tracked),
            over=created.value.time if created is not None and created.value.time > last.value.time else "",
        )


def _reason(event: EventRevision) -> tuple[str, str]:
    for rule, pattern, fix in _REFUSED:
        if pattern.search(event.message):
            return rule, fix
    return "pod-refused", "mend what the message names"
