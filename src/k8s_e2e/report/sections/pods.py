"""Section 5: every pod ever seen, unhealthy ones first, and the events that repeat."""

from collections import defaultdict

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.pods import Pod
from k8s_e2e.report.model import Block, Code, Line, Link, Para, Section, Table
from k8s_e2e.report.timeline import seconds

_MOST = 40
_EVENTS = 12


def section(facts: Facts) -> Section:
    """Return section 5."""
    rest = ("k8s/pod-descriptions.txt", "k8s/resources.txt", "k8s/events.txt", "k8s/history.jsonl")
    if not facts.pods:
        return Section(5, "Pods and events", (Para("No pod was seen."), *_events(facts)), rest)
    ordered = sorted(
        facts.pods, key=lambda pod: (not pod.problem, not pod.restarts, pod.controller, pod.created, pod.name)
    )
    rows = tuple(_row(pod) for pod in ordered[:_MOST])
    more: Line = (f"{len(ordered) - _MOST} more in ", Link("k8s/history.jsonl")) if len(ordered) > _MOST else ""
    wrong = sum(bool(pod.problem) for pod in facts.pods)
    seen = "1 pod was seen" if len(facts.pods) == 1 else f"{len(facts.pods)} pods were seen"
    intro = Para(f"{seen}, {wrong} of them not healthy when last seen.")
    table = Table(("pod", "state", "restarts", "ready after", "image", "why"), rows, more=more)
    return Section(5, "Pods and events", (intro, table, *_events(facts)), rest)


def _worst_first(pod: Pod) -> tuple[bool, bool, str, str, str]:
    return not pod.problem, not pod.restarts, pod.controller, pod.created, pod.name


def _row(pod: Pod) -> tuple[Line, ...]:
    state = "✗ not healthy" if pod.problem else "deleted" if pod.deleted else "✓ ready" if pod.is_ready else pod.phase
    created, ready = seconds(pod.created), seconds(pod.ready[0][0]) if pod.ready else None
    took = f"{max(0.0, ready - created):.1f} s" if created is not None and ready is not None else "never"
    images = ", ".join(container.image for container in pod.containers if not container.init)
    why = one_line(pod.problem, 160)
    return Code(pod.name), state, str(pod.restarts), took, Code(one_line(images, 80)), Code(why) if why else ""


def _events(facts: Facts) -> tuple[Block, ...]:
    """Events that are warnings or came more than once, alike ones folded, most frequent first."""
    counts: dict[tuple[str, str, str], tuple[int, str, int]] = {}
    highest: dict[str, int] = defaultdict(int)
    for line, event in facts.observed.events:
        fresh = max(0, event.count - highest[event.uid])
        highest[event.uid] = max(highest[event.uid], event.count)
        key = (event.type, event.reason, f"{event.kind}/{event.object}")
        count, _, _ = counts.get(key, (0, "", 0))
        counts[key] = (count + fresh, event.message, line)
    chosen = [(key, value) for key, value in counts.items() if key[0] == "Warning" or value[0] > 2]  # noqa: PLR2004
    chosen.sort(key=lambda entry: (entry[0][0] != "Warning", -entry[1][0], entry[0]))
    if not chosen:
        return (Para("No warning and no repeating event was seen."),) if facts.observed.events else ()
    rows: tuple[tuple[Line, ...], ...] = tuple(
        (str(count), kind, Code(reason), Code(ref), Code(one_line(message, 160)), Code(f"k8s/events.jsonl#L{line}"))
        for (kind, reason, ref), (count, message, line) in chosen[:_EVENTS]
    )
    left = len(chosen) - _EVENTS
    more: Line = (f"{left} more in ", Link("k8s/events.txt")) if left > 0 else ""
    columns = ("times", "type", "reason", "object", "message", "evidence")
    return (Table(columns, rows, title="Warnings and repeating events", more=more),)
