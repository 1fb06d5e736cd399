"""Section 4: what the operator wrote; failed writes and gaps first."""

from collections import Counter

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.writes import failed
from k8s_e2e.model.evidence import Action
from k8s_e2e.report.model import Block, Bullets, Code, Line, Link, Para, Section, Table, label
from k8s_e2e.report.sections import writers

_MOST = 30
_MAKING = ("create", "update", "patch", "apply")


def section(facts: Facts) -> Section:
    """Return section 4."""
    actions = facts.observed.actions.actions
    rest = ("k8s/operator-actions.json",)
    blocks: list[Block]
    if not actions:
        configured = facts.observed.configured("operator")
        why = "No finished write of an operator was seen" if configured else "The profile names no log of its operator"
        blocks = writers.blocks(facts, f"{why}{'' if configured else ' (no [operator])'}.")
        return Section(4, "Operator actions", tuple(blocks), ("k8s/history.jsonl",))
    blocks = [_counts(actions)]
    gaps = facts.observed.actions.gaps
    absent = _absent(facts, actions)
    told: list[Line] = [label("Nobody saw", Code(gap)) for gap in gaps[:10]]
    told += [label("Written, and absent at the end", Code(ref)) for ref in absent[:10]]
    if told:
        blocks.append(Bullets(tuple(told)))
    ordered = sorted(actions, key=lambda action: (not failed(action), action.time, action.seq))
    detailed = any(action.fields or action.reason for action in ordered[:_MOST])
    pods = {action.pod or action.pod_uid for action in actions}
    several = len(pods) > 1  # an operator that was replaced, or replicas of one
    rows = tuple(
        (*_row(action)[: None if detailed else -1], *((Code(action.pod or action.pod_uid),) if several else ()))
        for action in ordered[:_MOST]
    )
    more: Line = (f"{len(actions) - _MOST} more in ", Link(rest[0])) if len(actions) > _MOST else ""
    more_columns = [*(["fields or reason"] if detailed else []), *(["pod"] if several else [])]
    columns = ("time (UTC)", "action", "object", "outcome", "ms", *more_columns)
    blocks.append(Table(columns, rows, more=more))
    return Section(4, "Operator actions", tuple(blocks), rest)


def _counts(actions: list[Action]) -> Para:
    counts = Counter(action.action for action in actions)
    wrong = sum(failed(action) for action in actions)
    words = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return Para(f"{len(actions)} finished writes: {words}; {wrong} of them refused or failed.")


def _absent(facts: Facts, actions: list[Action]) -> list[str]:
    """Objects whose last write was no delete and that are not in the final state, though that state was collected."""
    if not facts.observed.resources:
        return []
    last = {f"{action.resource_kind}/{action.resource_name}": action for action in actions}
    there = {f"{item.get('kind')}/{(item.get('metadata') or {}).get('name')}" for item in facts.observed.resources}
    made = [ref for ref, action in last.items() if action.action.lower() in _MAKING]
    return sorted(ref for ref in made if ref not in there and not _deleted(facts, ref))


def _deleted(facts: Facts, ref: str) -> bool:
    """Whether the object was seen to be deleted: garbage collection is no write of the operator."""
    tracked = facts.objects.find(*ref.split("/", 1))
    return tracked is not None and bool(tracked.deleted)


def _row(action: Action) -> tuple[Line, ...]:
    status = f"{action.outcome or 'not recorded'}{f' ({action.http_status})' if action.http_status else ''}"
    return (
        action.time[11:23],
        f"{'✗ ' if failed(action) else ''}{one_line(action.action, 40)}",
        Code(f"{action.resource_kind}/{action.resource_name}"),
        one_line(status, 60),
        f"{action.duration_ms:.0f}",
        Code(one_line(", ".join(action.fields) or action.reason, 120)) if action.fields or action.reason else "",
    )
