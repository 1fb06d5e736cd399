"""Who wrote what, from what the API server itself recorded (managedFields): for operators whose log tells no writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.objects import Revision, Tracked, listing, mapping, stamp
from k8s_e2e.report.model import Block, Code, Line, Link, Para, Table

_MOST = 30
CONTROL_PLANE = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver")
_KIT = "k8s-e2e"  # field managers of ours begin so

OBJECT = "object"  # not one of its subresources


class Entry(NamedTuple):
    """An entry of managedFields: a manager's last write of an object or of one of its subresources."""

    manager: str
    operation: str
    part: str
    time: str


@dataclass
class Writes:
    """What one field manager wrote of one object."""

    manager: str
    tracked: Tracked
    count: int
    first: str
    last: str
    parts: list[str]
    pointer: str


def blocks(facts: Facts, why: str) -> list[Block]:
    """Return ``why`` this is shown, and the table."""
    found = sorted(_written(facts), key=lambda one: (one.first, one.last, one.tracked.ref, one.manager))
    if not found:
        return [Para(f"{why} No write of anybody but the control plane and the kit was recorded either.")]
    rows: tuple[tuple[Line, ...], ...] = tuple(
        (
            Code(one_line(one.manager, 60)),
            Code(one.tracked.ref),
            str(one.count),
            ", ".join(one.parts),
            one.first[11:19],
            one.last[11:19],
            Code(one.pointer),
        )
        for one in found[:_MOST]
    )
    more: Line = (f"{len(found) - _MOST} more in ", Link("k8s/history.jsonl")) if len(found) > _MOST else ""
    columns = ("field manager", "object", "writes, at least", "of", "first (UTC)", "last (UTC)", "evidence")
    told = f"{why} Who wrote what, as the API server recorded it; refused writes and deletions are not."
    return [Para(told), Table(columns, rows, more=more)]


def _written(facts: Facts) -> Iterator[Writes]:
    """Yield the writes of whoever is neither control plane nor kit; of custom resources the kit's own, too."""
    for tracked in facts.objects.of():
        by_manager: dict[str, Writes] = {}
        for revision, entry in attributed(tracked):
            if entry.manager.startswith(CONTROL_PLANE) or (entry.manager.startswith(_KIT) and not tracked.custom):
                continue
            one = by_manager.setdefault(
                entry.manager, Writes(entry.manager, tracked, 0, entry.time, entry.time, [], revision.pointer)
            )
            one.count += 1
            one.first, one.last = min(one.first, entry.time), max(one.last, entry.time)
            one.pointer = revision.pointer
            if entry.part not in one.parts:
                one.parts.append(entry.part)
        yield from by_manager.values()


def attributed(tracked: Tracked) -> Iterator[tuple[Revision, Entry]]:
    """Yield each revision with the entries that changed in it: its writers.

    Times are whole seconds, so that a manager's second write of the same second changes no entry: then it is the newest
    one, of the object itself where the generation has grown, of a subresource where not; several such tell nothing.
    """
    before: set[Entry] = set()
    generation = 0
    for revision in tracked.revisions:
        entries = set(_entries(revision))
        if revision.change == "DELETED" or not entries:
            continue
        told = mapping(revision.object, "metadata").get("generation")
        now = told if isinstance(told, int) else 0
        fresh = sorted(entries - before)
        if not fresh:
            newest = max(entry.time for entry in entries)
            of_object = now > generation
            fresh = sorted(entry for entry in entries if entry.time == newest)
            if len(fresh) > 1:
                fresh = [entry for entry in fresh if (entry.part == OBJECT) == of_object]
            fresh = fresh if len(fresh) == 1 else []
        yield from ((revision, entry) for entry in fresh)
        before, generation = entries, now


def _entries(revision: Revision) -> Iterator[Entry]:
    for entry in listing(revision.object, "metadata", "managedFields"):
        manager, operation = str(entry.get("manager") or "unknown"), str(entry.get("operation") or "")
        yield Entry(manager, operation, str(entry.get("subresource") or OBJECT), stamp(entry.get("time")))
