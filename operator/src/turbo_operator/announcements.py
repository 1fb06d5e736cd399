"""Events about an APIGraph: what a reconcile did for it, and what it could not do."""

from collections import defaultdict
from collections.abc import Callable

from turbo_operator.actions import Record
from turbo_operator.core.desired import Object

_EVENTS = 10
"""So many Events of one reason follow from one reconcile; the rest is counted in one more."""

Tell = Callable[[Object, str, str, str], None]
"""Called with (APIGraph, Normal or Warning, reason, message)."""


def announce(tell: Tell, obj: Object, records: list[Record]) -> None:
    """One Event for all writes of a reconcile; one each for what cannot be done, up to a number."""
    done = [r for r in records if r["outcome"] == "ok"]
    if done:
        counts = {verb: sum(r["action"] == verb for r in done) for verb in ("Create", "Update", "Delete")}
        told = ", ".join(f"{verb.lower()}d {count}" for verb, count in counts.items() if count)
        objects = ", ".join(f"{r['resource_kind']} {r['resource_name']}" for r in done[:6])
        more = f" and {len(done) - 6} more" if len(done) > 6 else ""  # noqa: PLR2004 - as many as were named
        tell(obj, "Normal", "Applied", f"{told}: {objects}{more}")
    troubles: dict[str, list[str]] = defaultdict(list)
    for record in records:
        what = f"{record['resource_kind']} {record['resource_name']}: {record['reason']}"
        if record["outcome"] == "skipped":
            troubles[record["action"]].append(what)
        elif record["outcome"] in {"failed", "unknown"}:
            troubles["WriteFailed"].append(what)
    for reason, told_of in troubles.items():
        for what in told_of[:_EVENTS]:
            tell(obj, "Warning", reason, what)
        if len(told_of) > _EVENTS:
            rest = f"and {len(told_of) - _EVENTS} more, which the action log and the status name"
            tell(obj, "Warning", reason, rest)
