"""Section 6: the custom resources an operator reconciles, with what their status says."""

from typing import Any

from k8s_e2e.base.text import one_line
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.objects import Tracked, condition, listing, mapping
from k8s_e2e.report.model import Code, Line, Link, Para, Section, Table

_MOST = 20


def section(facts: Facts) -> Section:
    """Return section 6."""
    found = [tracked for tracked in facts.objects.of() if tracked.custom]
    kinds = sorted({tracked.kind for tracked in found})
    title = f"Custom resources ({', '.join(kinds)})" if kinds else "Custom resources"
    files = tuple(sorted(facts.observed.relative(path) for path in facts.observed.run.k8s.glob("*.yaml")))
    if not found:
        return Section(6, title, (Para("No custom resource was seen."),), files)
    shown = sorted(found, key=lambda one: (_healthy(one), one.created, one.name))[:_MOST]
    phases = any("phase" in mapping(tracked.last, "status") for tracked in shown)  # a convention that many do without
    rows = tuple(_row(tracked, phases=phases) for tracked in shown)
    more: Line = (f"{len(found) - _MOST} more in ", Link("k8s/history.jsonl")) if len(found) > _MOST else ""
    columns = ("object", *(("phase",) if phases else ()), "observed / generation", "conditions", "last seen")
    return Section(6, title, (Table(columns, rows, more=more),), files or ("k8s/history.jsonl",))


def _healthy(tracked: Tracked) -> bool:
    ready, degraded = condition(tracked.last, "Ready"), condition(tracked.last, "Degraded")
    return bool(tracked.deleted) or (ready.get("status") == "True" and degraded.get("status") != "True")


def _row(tracked: Tracked, *, phases: bool) -> tuple[Line, ...]:
    status = mapping(tracked.last, "status")
    generation = mapping(tracked.last, "metadata").get("generation", "?")
    words = ", ".join(_condition(entry) for entry in listing(tracked.last, "status", "conditions"))
    seen = f"deleted {tracked.deleted[11:23]}" if tracked.deleted else "there at the end"
    return (
        Code(tracked.ref),
        *((Code(str(status.get("phase", "none"))),) if phases else ()),
        f"{status.get('observedGeneration', 'none')} / {generation}",
        Code(one_line(words, 240)) if words else "none",
        (seen, ", ", Code(tracked.pointer)),
    )


def _condition(entry: dict[str, Any]) -> str:
    why = f" ({entry.get('reason')}: {entry.get('message')})" if entry.get("status") != "True" else ""
    return f"{entry.get('type')}={entry.get('status')}{why}"
