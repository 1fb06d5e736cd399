"""Kubernetes Events as revisions on one clock, and as a table.

An Event's times are scattered: ``lastTimestamp`` is null where the newer API wrote it, ``eventTime`` is the first
occurrence of a series, and both forms live side by side. One revision gets one time: its latest occurrence.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from k8s_e2e.base import clock
from k8s_e2e.model.evidence import EventRevision

_COLUMNS = ("TIME", "TYPE", "REASON", "OBJECT", "COUNT", "SOURCE", "MESSAGE")


def event_time(event: dict[str, Any]) -> str:
    """Return when the event last happened: series, else eventTime, else lastTimestamp, else when it was made."""
    series = event.get("series") or {}
    candidates = (
        series.get("lastObservedTime"),
        event.get("eventTime"),
        event.get("lastTimestamp"),
        event.get("firstTimestamp"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    for text in candidates:
        if text:
            try:
                return clock.normal(text)
            except ValueError:
                continue
    return ""


def revision(event: dict[str, Any], *, seen: str) -> EventRevision:
    """Read one Event (``v1`` or ``events.k8s.io/v1``), seen at ``seen``."""
    metadata = event.get("metadata") or {}
    about = event.get("involvedObject") or event.get("regarding") or {}
    source = event.get("source") or {}
    series = event.get("series") or {}
    return EventRevision(
        time=event_time(event) or seen,
        seen=seen,
        uid=metadata.get("uid", ""),
        name=metadata.get("name", ""),
        type=event.get("type") or "",
        reason=event.get("reason") or "",
        message=event.get("message") or event.get("note") or "",
        count=series.get("count") or event.get("count") or event.get("deprecatedCount") or 1,
        kind=about.get("kind", ""),
        object=about.get("name", ""),
        object_uid=about.get("uid", ""),
        source=event.get("reportingComponent") or source.get("component") or "",
        resource_version=metadata.get("resourceVersion", ""),
        namespace=metadata.get("namespace", ""),
    )


def latest(revisions: Iterable[EventRevision]) -> list[EventRevision]:
    """Keep the last revision of each event, ordered by time."""
    last: dict[str, EventRevision] = {}
    for item in revisions:
        last[item.uid or f"{item.namespace}/{item.name}"] = item
    return sorted(last.values(), key=lambda item: (item.time, item.seen, item.name))


def table(revisions: Iterable[EventRevision]) -> str:
    """Write the last revision of each event as a table with absolute times, oldest first; messages on one line."""
    rows = [_COLUMNS]
    for item in latest(revisions):
        about = f"{item.kind}/{item.object}" if item.kind else item.object
        message = " ".join(item.message.split())
        rows.append((item.time, item.type, item.reason, about, str(item.count), item.source, message))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def decode(lines: Iterable[bytes]) -> list[EventRevision]:
    """Read the lines of ``events.jsonl``; one that was cut is left out."""
    decoder = msgspec.json.Decoder(EventRevision)
    found = []
    for line in lines:
        try:
            found.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return found
