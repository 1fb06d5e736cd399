"""What others did to the objects that the operator acts on: it tells a repair from an update that was asked for.

All of it comes from the recorder's history alone: revisions of one kind are in the order of one watch, whatever clocks
say. Who deletes an object is recorded nowhere, who changes one in its managedFields.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.objects import Tracked
from k8s_e2e.diagnosis.writes import became, reference
from k8s_e2e.model.evidence import Action
from k8s_e2e.report.model import Block, Code, Line, Link, Table
from k8s_e2e.report.sections import writers
from k8s_e2e.report.timeline import seconds

_MOST = 15
_CREATING, _DELETING = "create", "delete"  # actions
_STATUS = "status"  # somebody else's status is no change of what is asked for


class _Change(NamedTuple):
    """One change of an object; ``by`` is a field manager, empty where nobody records it."""

    seen: str
    ref: str
    what: str
    by: str
    pointer: str


def blocks(facts: Facts, actions: list[Action]) -> list[Block]:
    """Return the table, nothing where nobody but the operator changed what ``actions`` are about."""
    acted = {reference(action) for action in actions}
    lives: dict[str, list[Tracked]] = {}
    for tracked in facts.objects.of():
        if tracked.ref in acted and tracked.revisions:
            lives.setdefault(tracked.ref, []).append(tracked)
    own = _manager(lives, actions)
    found: list[tuple[_Change, str]] = []
    for ref in lives if own else ():
        ordered = sorted(lives[ref], key=lambda tracked: tracked.revisions[0].seen)
        answer = "none"
        for change in reversed(list(_changes(facts, ordered, actions))):
            if change.by == own:
                answer = f"{change.what}, seen {change.seen[11:23]}"
            else:
                found.append((change, answer))
    if not found:
        return []
    found.sort()
    rows: tuple[tuple[Line, ...], ...] = tuple(
        (
            change.seen[11:23],
            change.what,
            Code(one_line(change.by, 60)) if change.by else "not recorded",
            Code(change.ref),
            answer,
            Code(change.pointer),
        )
        for change, answer in found[:_MOST]
    )
    more: Line = (f"{len(found) - _MOST} more in ", Link("k8s/history.jsonl")) if len(found) > _MOST else ""
    columns = ("seen (UTC)", "what", "by", "object", f"next write by {one_line(own, 60)}", "evidence")
    return [Table(columns, rows, "What others did to these objects, and what the operator wrote there next", more)]


def _changes(facts: Facts, lives: list[Tracked], actions: list[Action]) -> Iterator[_Change]:
    """Yield the changes of one name in order, the operator's too; ``lives`` are the objects that bore it, in order."""
    for number, tracked in enumerate(lives):
        for revision, entry in writers.attributed(tracked):
            if entry.part == _STATUS or entry.manager.startswith(writers.CONTROL_PLANE):
                continue
            what = "created it" if revision.change == "ADDED" else "changed it"
            part = "" if entry.part == writers.OBJECT else f" ({one_line(entry.part, 40)})"
            yield _Change(revision.seen, tracked.ref, what + part, entry.manager, revision.pointer)
        following = lives[number + 1].revisions[0].seen if number + 1 < len(lives) else ""
        if tracked.deleted and following and not _expected(facts, tracked, following, actions):
            yield _Change(tracked.deleted, tracked.ref, "deleted it", "", tracked.revisions[-1].pointer)


def _expected(facts: Facts, tracked: Tracked, following: str, actions: list[Action]) -> bool:
    """Whether the operator deleted it itself, or garbage collection did after its owner."""
    owner = facts.objects.owner(tracked)
    if owner is not None and owner.deleted and owner.deleted <= following:
        return True
    first, gone = seconds(tracked.revisions[0].seen) or 0.0, seconds(tracked.deleted) or 0.0
    for action in actions:
        end = seconds(action.time)
        if end is None or reference(action) != tracked.ref or action.action.lower() != _DELETING:
            continue
        if became(action) != "failed" and first <= end and end - action.duration_ms / 1000 <= gone:
            return True
    return False


def _manager(lives: dict[str, list[Tracked]], actions: list[Action]) -> str:
    """Return the operator's field manager: who wrote most of the objects first that it says to have created."""
    count: Counter[str] = Counter()
    for action in actions:
        if action.action.lower() == _CREATING and became(action) == "written":
            for tracked in lives.get(reference(action), []):
                count.update(entry.manager for _, entry in list(writers.attributed(tracked))[:1])
    return count.most_common(1)[0][0] if count else ""
