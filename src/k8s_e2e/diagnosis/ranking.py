"""From candidates to findings: causes before what they led to, near the failure before far, early before late."""

import dataclasses

import msgspec

from k8s_e2e.base import clock
from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import CAUSE, CONSEQUENCE, SYMPTOM, Candidate, Facts
from k8s_e2e.model.story import Finding, Severity

_ORDER: dict[str, int] = {"error": 0, "warning": 1, "info": 2}
_SLACK_S = 2.0  # events carry whole seconds, and are written a moment after what they tell of


def rank(facts: Facts, candidates: list[Candidate]) -> list[Finding]:
    """Order the candidates and fold each one that another explains into that one's chain.

    A run that passed keeps only mechanisms still broken at its end, as information: nothing failed, so nothing is to be
    explained.
    """
    passed = facts.verdict.word == "passed"
    if passed:
        candidates = [one for one in candidates if one.level == CAUSE and not one.over and not one.wide]
    related = _related(facts)
    judged = [_judge(facts, one, passed=passed, near=bool(one.touches & related)) for one in candidates]
    judged.sort(key=lambda one: _key(one, related))
    kept: list[Candidate] = []
    folded: dict[str, list[str]] = {}
    for one in judged:
        upstream = next((other for other in kept if _explains(facts, other, one, related)), None)
        if upstream is None:
            kept.append(one)
        elif one.touches:  # what the failing step itself says stands at the head of the chain anyway
            folded.setdefault(upstream.finding.id, []).append(one.finding.title)
    return [_chained(facts, one, folded.get(one.finding.id, []), related) for one in kept]


def _related(facts: Facts) -> frozenset[str]:
    """Refs of the objects that the failing step or stage names, of what belongs to, operates and is called by them."""
    text = facts.failure_text
    if not text:
        return frozenset()
    found: set[str] = set()
    for tracked in facts.objects.of():
        if len(tracked.name) > 2 and tracked.name in text and tracked.kind not in ("Namespace", "Node"):  # noqa: PLR2004
            found |= facts.around(tracked)
    operators = {ref for one in facts.objects.of() if one.custom and one.ref in found for ref in facts.operators(one)}
    return _with_dependencies(facts, found | operators)


def _with_dependencies(facts: Facts, refs: set[str]) -> frozenset[str]:
    """Add the Services that the pods among ``refs`` name as hosts, with what is behind those, and so on."""
    services = {service.ref: service for service in facts.objects.of("Service")}
    todo = {host for ref in refs for host in facts.hosts.get(ref, ())} - refs
    while todo:
        behind = facts.around(services[todo.pop()])
        new = behind - refs
        refs |= behind
        todo |= {host for ref in new for host in facts.hosts.get(ref, ())} - refs
    return frozenset(refs)


def _judge(facts: Facts, one: Candidate, *, passed: bool, near: bool) -> Candidate:
    severity: Severity = one.finding.severity
    if passed or (one.over and one.over <= (facts.failure_end or one.over)):
        severity = "info"
    elif _after_failure(facts, one.finding) and not near:
        severity = "warning"  # it began after the failure: no cause of it
    return _with_severity(one, severity)


def _with_severity(one: Candidate, severity: Severity) -> Candidate:
    return dataclasses.replace(one, finding=msgspec.structs.replace(one.finding, severity=severity))


def _after_failure(facts: Facts, finding: Finding) -> bool:
    if not facts.failure_end or not finding.time:
        return False
    try:
        return clock.epoch(finding.time) > clock.epoch(facts.failure_end) + _SLACK_S
    except ValueError:
        return False


def _key(one: Candidate, related: frozenset[str]) -> tuple[int, bool, int, bool, bool, float, str]:
    far = bool(related) and not one.touches & related
    began = _epoch(one.finding.time)
    return _ORDER[one.finding.severity], not one.decisive, one.level, far, not one.wide, began, one.finding.id


def _epoch(time: str) -> float:
    try:
        return clock.epoch(time)
    except ValueError:
        return float("inf")


def _explains(facts: Facts, cause: Candidate, other: Candidate, related: frozenset[str]) -> bool:
    """Whether ``cause`` accounts for ``other``: the same objects, or a Service its pods depend on."""
    if cause.finding.severity != "error" or other.finding.severity != "error":
        return False
    if cause.level == CAUSE and other.level == CAUSE:
        return _upstream(facts, cause, other)
    if other.level < cause.level:
        return False
    if other.level > CONSEQUENCE:  # what the step or stage noticed: explained by any cause that is near it
        near = cause.wide or cause.decisive or bool(cause.touches & related) or not related
        return cause.level < other.level and near
    if cause.level < other.level and (cause.wide or cause.touches & other.touches):
        return True
    return _upstream(facts, cause, other)


def _upstream(facts: Facts, cause: Candidate, other: Candidate) -> bool:
    """Whether pods of ``other`` name a Service of ``cause`` as a host, and the cause came first.

    When a consequence began says nothing: a rollout has begun before what stops it.
    """
    if cause.touches & other.touches:
        return cause.wide or cause.finding.object == other.finding.object
    hosts = {host for ref in other.touches for host in facts.hosts.get(ref, ())}
    first = other.level != CAUSE or _epoch(cause.finding.time) <= _epoch(other.finding.time) + _SLACK_S
    return bool(hosts & cause.touches) and first


def _chained(facts: Facts, one: Candidate, folded: list[str], related: frozenset[str]) -> Finding:
    """Put the failure in front of the chain of a finding that explains it, symptom first."""
    failure = facts.failure
    itself = one.level == SYMPTOM or (failure is not None and one.finding.step == failure.id and not folded)
    if failure is not None and itself and not one.touches:
        return one.finding  # it is the failure itself: nothing leads to it
    chain = [*folded, *one.finding.because, one.finding.title]
    near = one.wide or bool(one.touches & related) or not related or not one.touches
    explains = one.finding.severity == "error" and near
    if failure is not None and explains:
        chain = [f"{failure.where}: {failure.message}", *chain]
    unique = list(dict.fromkeys(one_line(link, 240) for link in chain))
    step = one.finding.step or (failure.id if failure is not None and explains else "")
    return msgspec.structs.replace(one.finding, because=unique, step=step)
