"""Containers that run and are never ready, or are killed for it: their probes fail."""

import re
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import SIGN, Candidate, Facts
from k8s_e2e.model.story import Finding

_PROBE = re.compile(r"(Readiness|Liveness|Startup) probe failed: ?(.*)", re.DOTALL)


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield one candidate per workload whose pods run but whose probe kept failing."""
    seen: set[str] = set()
    for pod in facts.pods:
        about = pod.controller or pod.tracked.ref
        rows = [row for row in facts.events.get(pod.tracked.ref, []) if row.value.reason == "Unhealthy"]
        failed = [(row, match) for row in rows if (match := _PROBE.search(row.value.message))]
        if not failed or about in seen or (pod.deleting and pod.ready):
            continue
        row, match = failed[-1]
        if pod.ready_after(row.value.time):
            continue  # every start of a pod fails a probe or two: no news once it is ready
        seen.add(about)
        finding = Finding(
            id=f"probe-{match[1].lower()}:{about}",
            severity="error",
            fault="product",
            title=one_line(f"{match[1]} probe of {about} fails: {match[2]}", 200),
            object=about,
            time=failed[0][0].value.time,
            detail=one_line(f"seen {sum(one.value.count for one, _ in failed)} time(s); {match[0]}"),
            because=[f"{pod.tracked.ref} runs but is not ready"],
            evidence=[f"k8s/events.jsonl#L{row.line}"],
            disproof=f"{pod.tracked.ref} Ready after {row.value.time}",
            next_command=f"tail -n 40 k8s/logs/{pod.name}/*.txt",
            fix="mend what the probe asks (path, port, timeout), or what the container answers to it",
        )
        yield Candidate(finding, SIGN, facts.around(pod.tracked))
