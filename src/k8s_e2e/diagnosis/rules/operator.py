"""Controllers that cannot or do not do their work: RBAC denials, failed writes, custom resources left behind."""

import re
from collections.abc import Iterator

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis import refusals
from k8s_e2e.diagnosis.facts import CAUSE, CONSEQUENCE, Candidate, Facts
from k8s_e2e.diagnosis.logs import describe, read
from k8s_e2e.diagnosis.objects import Tracked, condition, listing, mapping, stamp
from k8s_e2e.diagnosis.writes import became, reference
from k8s_e2e.model.evidence import Action
from k8s_e2e.model.story import Finding

_DENIED = re.compile(
    r'User \\*"system:serviceaccount:([^":\\]+):([^"\\]+)\\*" cannot (\w+) resource \\*"([^"\\]+)\\*" '
    r'in API group \\*"([^"\\]*)\\*"'
)
_FAILED_PHASES = ("failed", "error")


def find(facts: Facts) -> Iterator[Candidate]:
    """Yield RBAC denials (from logs, events and actions), failed writes, and custom resources that say they failed."""
    yield from _own_denial(facts)
    yield from _denials(facts)
    yield from _failed_writes(facts)
    yield from _conditions(facts)


def _own_denial(facts: Facts) -> Iterator[Candidate]:
    refusal = refusals.own(facts)
    if refusal is None or facts.failure is None:
        return
    record = facts.observed.record
    account = ["--account", refusal.account] if refusal.account else []
    finding = Finding(
        id=f"own-account:{refusal.user}",
        severity="error",
        fault="infrastructure",
        title=one_line(f"The account of the run itself, {refusal.user}, may not {refusal.what}", 200),
        time=facts.failure.started,
        step=facts.failure.id,
        detail=one_line(refusal.message),
        evidence=[f"{'k8s-e2e-results' if facts.failure.step else 'run'}.json#{facts.failure.id}"],
        disproof="a successful request of that kind by the run later on",
        next_command=f"kubectl auth can-i --list -n {record.namespace or 'default'}",
        fix=f"grant it: `{refusals.role_command(record, 'permissions', *account)}` prints the Role",
    )
    yield Candidate(finding, CAUSE, decisive=True)


def _denials(facts: Facts) -> Iterator[Candidate]:
    refused = refusals.own(facts)
    said: dict[tuple[str, str, str, str], list[tuple[str, str, str]]] = {}
    for pointer, time, text in _texts(facts):
        for match in _DENIED.finditer(text):
            if refused is not None and refused.account == f"{match[1]}/{match[2]}":
                continue  # the run's own account: no part of the platform
            key = (match[2], match[3], match[4], match[5])
            said.setdefault(key, []).append((time, pointer, text))
    by_account: dict[str, list[tuple[str, str, str]]] = {}
    for account, verb, resource, group in said:
        by_account.setdefault(account, []).append((verb, resource, group))
    for account, missing in sorted(by_account.items()):
        seen = sorted(entry for one in missing for entry in said[account, *one])
        users = [pod for pod in facts.pods if mapping(pod.tracked.last, "spec").get("serviceAccountName") == account]
        words = ", ".join(f"{verb} {resource}{'.' + group if group else ''}" for verb, resource, group in missing)
        touched = frozenset(ref for pod in users for ref in facts.around(pod.tracked))
        namespace = facts.observed.record.namespace or "default"
        finding = Finding(
            id=f"rbac:ServiceAccount/{account}",
            severity="error",
            fault="product",
            title=one_line(f"ServiceAccount/{account} may not {words}", 200),
            object=f"ServiceAccount/{account}",
            time=seen[0][0],
            detail=one_line(f"refused {len(seen)} time(s); the first: {seen[0][2]}"),
            because=[f"{pod.controller or pod.tracked.ref} runs as {account}" for pod in users[:1]],
            evidence=list(dict.fromkeys(pointer for _, pointer, _ in seen))[:5],
            disproof="a successful request of that kind by the same account later in the run",
            next_command=f"kubectl auth can-i --list -n {namespace} --as=system:serviceaccount:{namespace}:{account}",
            fix=f"grant to {account} in its Role: {words}",
        )
        yield Candidate(finding, CAUSE, touched, wide=True)


def _texts(facts: Facts) -> Iterator[tuple[str, str, str]]:
    for row in facts.observed.events:
        yield f"k8s/events.jsonl#L{row.line}", row.value.time, row.value.message
    for file in facts.log_files:
        for line in read(facts.observed, file, trouble_only=True):
            yield line.pointer, line.time, describe(line)
    for number, action in enumerate(facts.observed.actions.actions):
        yield f"k8s/operator-actions.json#{number}", action.time, action.reason
    if facts.failure is not None:
        yield f"k8s-e2e-results.json#{facts.failure.id}", facts.failure.started, facts.failure_text


def _failed_writes(facts: Facts) -> Iterator[Candidate]:
    last: dict[str, tuple[int, Action]] = {}
    for number, action in enumerate(facts.observed.actions.actions):
        last[reference(action)] = (number, action)
    for ref, (number, action) in sorted(last.items()):
        end = became(action)
        if end in ("written", "skipped"):
            continue
        status = f" ({action.http_status})" if action.http_status else ""
        title = f"The operator's {action.action} of {ref} ended as {action.outcome or 'failed'}{status}"
        fix = "mend what the API server's answer names"
        if end == "withheld":
            title = f"The operator did not write {ref} ({action.action})"
            fix = "remove or rename what stands in its way, or mend what was asked for: its reason says which"
        finding = Finding(
            id=f"operator-write:{ref}",
            severity="error",
            fault="product",
            title=one_line(title),
            object=ref,
            time=action.time,
            detail=one_line(action.reason),
            because=[f"{ref} is not as the operator wants it"],
            evidence=[f"k8s/operator-actions.json#{number}"],
            disproof="a later write of the same object that succeeded",
            next_command=f"grep -n -A16 '\"{action.resource_name}\"' k8s/operator-actions.json",
            fix=fix,
        )
        tracked = facts.objects.find(*ref.split("/", 1)) if "/" in ref else None
        yield Candidate(finding, CONSEQUENCE, facts.around(tracked) if tracked else frozenset({ref}))


def _conditions(facts: Facts) -> Iterator[Candidate]:
    for tracked in facts.objects.of():
        if tracked.custom and not tracked.deleted:
            yield from _condition(facts, tracked)


def _condition(facts: Facts, tracked: Tracked) -> Iterator[Candidate]:
    if mapping(tracked.last, "metadata").get("deletionTimestamp"):
        return
    refused = condition(tracked.last, "Accepted")
    degraded = condition(tracked.last, "Degraded")
    unready = condition(tracked.last, "Ready")
    status = mapping(tracked.last, "status")
    if refused.get("status") == "False":
        level, entry, words = CAUSE, refused, "was refused by its operator"
    elif degraded.get("status") == "True":
        level, entry, words = CONSEQUENCE, degraded, "is degraded"
    elif unready.get("status") == "False":
        level, entry, words = CONSEQUENCE, unready, "is not ready"
    elif str(status.get("phase", "")).lower() in _FAILED_PHASES:
        level, entry, words = CONSEQUENCE, status, f"is in phase {status['phase']}"
    elif not status and _has_status(facts, tracked):
        level, entry, words = CONSEQUENCE, {}, "has no status: its operator never took it up"
    else:
        return
    acts = facts.observed.configured("operator")
    why = one_line(f"{entry.get('reason', '')} {entry.get('message', '')}".strip(), 200)
    finding = Finding(
        id=f"custom-resource:{tracked.ref}",
        severity="error",
        fault="data" if level == CAUSE else "unknown",
        title=f"{tracked.ref} {words}{': ' + why if why else ''}",
        object=tracked.ref,
        time=stamp(entry.get("lastTransitionTime")) or tracked.created,
        because=[f"{tracked.ref} {words}"],
        evidence=[tracked.pointer],
        disproof="a later revision of it that is Ready",
        next_command=f"grep -n {tracked.name} k8s/{'operator-actions.json' if acts else 'history.jsonl'}",
        fix="mend what the condition names",
    )
    yield Candidate(finding, level, facts.around(tracked))


def _has_status(facts: Facts, tracked: Tracked) -> bool:
    """Whether the kind is one whose status somebody writes; so it is taken to be where its definition was not seen."""
    group, _, version = tracked.api_version.partition("/")
    for definition in facts.objects.of("CustomResourceDefinition"):
        spec = mapping(definition.last, "spec")
        if (spec.get("group"), mapping(spec, "names").get("kind")) == (group, tracked.kind):
            served = [one for one in listing(spec, "versions") if one.get("name") == version]
            return any("status" in mapping(one, "subresources") for one in served)
    return True
