"""The one place that reads the clock."""

from datetime import UTC, datetime


def now() -> str:
    """The current time, RFC 3339 in UTC with microseconds, e.g. ``2026-01-02T03:04:05.000006Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
