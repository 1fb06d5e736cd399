"""Section 4: what the operator wrote, what failed, and what it did not write, in order of time."""

from collections import Counter
from itertools import accumulate

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.writes import became, later, reference, refusal
from k8s_e2e.model.evidence import Action
from k8s_e2e.report.model import Block, Bullets, Code, Inline, Line, Link, Section, Table, label
from k8s_e2e.report.sections import outside_changes, writers

_MOST = 30
_NAMED = 5
_MAKING = ("create", "update", "patch", "apply")
_FAILED = ("failed", "unknown")
_TROUBLE = (*_FAILED, "withheld")
_FILE = "k8s/operator-actions.json"


def section(facts: Facts) -> Section:
    """Return section 4."""
    actions = sorted(facts.observed.actions.actions, key=lambda action: action.time)  # stable: a pod's own order stays
    blocks: list[Block]
    if not actions:
        configured = facts.observed.configured("operator")
        why = "No finished write of an operator was seen" if configured else "The profile names no log of its operator"
        blocks = writers.blocks(facts, f"{why}{'' if configured else ' (no [operator])'}.")
        return Section(4, "Operator actions", tuple(blocks), ("k8s/history.jsonl",))
    told = [*_counts(actions), *_pods(actions)]
    told += [label("Nobody saw", Code(gap)) for gap in facts.observed.actions.gaps[:10]]
    told += [label("Written, and absent at the end", Code(ref)) for ref in _absent(facts, actions)[:10]]
    blocks = [Bullets(tuple(told)), _table(actions), *outside_changes.blocks(facts, actions)]
    return Section(4, "Operator actions", tuple(blocks), (_FILE,))


def _counts(actions: list[Action]) -> list[Line]:
    """Return a line each for what was written, what failed, and what was not written; those without any left out."""
    by: dict[str, list[int]] = {}
    for index, action in enumerate(actions):
        by.setdefault(became(action), []).append(index)
    done = by.get("written", [])
    clean = "; none failed" if not by.keys() & {*_FAILED} else ""
    kinds = f" ({_verbs(actions, done)})" if done else ""
    lines: list[Line] = [label("Writes done", f"{len(done)}{kinds}{clean}")]
    after = later(actions)
    for end, name, meaning in (
        ("failed", "Writes failed", ""),
        ("unknown", "Writes of unknown outcome", ": sent, and no answer was seen"),
        ("withheld", "Not written", ": nothing was sent, and the table says why"),
    ):
        if found := by.get(end, []):
            objects = {reference(actions[index]) for index in found}
            count = _many(len(objects), "object") if end == "withheld" else str(len(found))
            words = f"{count} ({_verbs(actions, found)}){meaning}"
            lines.append(label(name, words, *_since(actions, found, after)))
    if skipped := by.get("skipped", []):
        lines.append(label("Skipped", f"{len(skipped)} ({_verbs(actions, skipped)})"))
    return lines


def _since(actions: list[Action], found: list[int], after: dict[int, Action]) -> list[Inline]:
    """Say which of these objects were written later, and which were not.

    What was refused of an object may still be when it is written later: of such a one nothing is said.
    """
    found = [index for index in found if index not in after or not refusal(actions[index])]
    written = {reference(actions[index]): after[index] for index in found if index in after}
    never = dict.fromkeys((reference(actions[index]) for index in found if index not in after), "")
    told = {
        ref: f" ({one_line(action.action, 40)} at {action.time[11:23]})"
        for ref, action in written.items()
        if ref not in never
    }
    parts: list[Inline] = []
    for word, refs in (("written later", told), ("not written later", never)):
        for number, (ref, when) in enumerate(list(refs.items())[:_NAMED]):
            parts += [", " if number else f"; {word}: ", Code(ref), when]
        if len(refs) > _NAMED:
            parts.append(f" and {len(refs) - _NAMED} more")
    return parts


def _pods(actions: list[Action]) -> list[Line]:
    """Say which pod acted when, where several did: an operator that was replaced, or replicas of one."""
    spans: dict[str, list[str]] = {}
    for action in actions:
        spans.setdefault(_pod(action), []).append(action.time)
    if len(spans) < 2:  # noqa: PLR2004
        return []
    parts: list[Inline] = []
    for number, (pod, times) in enumerate(list(spans.items())[:_NAMED]):
        parts += ["; " if number else "", Code(pod or "not told"), f" {_many(len(times), 'action')}"]
        parts.append(f" from {times[0][11:23]} to {times[-1][11:23]}")
    if len(spans) > _NAMED:
        parts.append(f"; and {len(spans) - _NAMED} more")
    ends = accumulate((times[-1] for times in spans.values()), max)
    overlap = any(times[0] <= end for times, end in zip(list(spans.values())[1:], ends, strict=False))
    order = "in turns" if overlap else "one after the other"
    clocks = "; each by the clock of its node, so the order between pods is only as exact as these agree"
    return [label("Pods", f"{len(spans)} acted {order}: ", *parts, clocks)]


def _table(actions: list[Action]) -> Table:
    """Return the actions in order of time; of many, what went wrong before the rest."""
    wrong = [index for index, action in enumerate(actions) if became(action) in _TROUBLE]
    rest = [index for index in range(len(actions)) if index not in set(wrong)]
    chosen = [actions[index] for index in sorted([*wrong, *rest][:_MOST])]
    detailed = any(action.fields or action.reason for action in chosen)
    several = len({_pod(action) for action in actions}) > 1
    rows = tuple(
        (*_row(action)[: None if detailed else -1], *((Code(_pod(action)),) if several else ())) for action in chosen
    )
    columns = ("time (UTC)", "action", "object", "outcome", "ms", *(["why, and what"] if detailed else []))
    return Table((*columns, *(["pod"] if several else [])), rows, more=_left_out(len(actions), len(wrong)))


def _left_out(count: int, wrong: int) -> Line:
    if count <= _MOST:
        return ""
    shown = f"; all {wrong} that failed or were not written are above" if 0 < wrong <= _MOST else ""
    return (f"{count - _MOST} more in ", Link(_FILE), shown)


def _row(action: Action) -> tuple[Line, ...]:
    end = became(action)
    status = action.outcome or "not recorded"
    details = [str(action.http_status)] if action.http_status else []
    if end == "withheld":
        status, details = "not written", [*details, *([action.outcome] if action.outcome else [])]
    why = one_line(": ".join(part for part in (action.reason, ", ".join(action.fields)) if part), 160)
    return (
        action.time[11:23],
        f"{'✗ ' if end in _FAILED else ''}{one_line(action.action, 40)}",
        Code(reference(action)),
        one_line(f"{status} ({', '.join(details)})" if details else status, 60),
        "" if end in ("withheld", "skipped") else f"{action.duration_ms:.0f}",
        Code(why) if why else "",
    )


def _absent(facts: Facts, actions: list[Action]) -> list[str]:
    """Objects whose last write was no delete and that are not in the final state, though that state was collected."""
    if not facts.observed.resources:
        return []
    last = {reference(action): action for action in actions if became(action) == "written"}
    there = {f"{item.get('kind')}/{(item.get('metadata') or {}).get('name')}" for item in facts.observed.resources}
    made = [ref for ref, action in last.items() if action.action.lower() in _MAKING]
    return sorted(ref for ref in made if ref not in there and not _deleted(facts, ref))


def _deleted(facts: Facts, ref: str) -> bool:
    """Whether the object was seen to be deleted: garbage collection is no write of the operator."""
    tracked = facts.objects.find(*ref.split("/", 1))
    return tracked is not None and bool(tracked.deleted)


def _pod(action: Action) -> str:
    return action.pod or action.pod_uid


def _verbs(actions: list[Action], chosen: list[int]) -> str:
    counts = Counter(one_line(actions[index].action, 40) for index in chosen)
    return ", ".join(f"{count} {verb}" for verb, count in sorted(counts.items()))


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
