"""One clock: RFC 3339 UTC with microseconds outside, epoch seconds inside."""

import re
import time
from datetime import UTC, datetime

_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?$")


def now() -> str:
    """Return the time as RFC 3339 UTC with microseconds, such as ``2026-01-02T03:04:05.000006Z``."""
    return rfc3339(time.time())


def rfc3339(epoch_s: float) -> str:
    """Write ``epoch_s`` (seconds since 1970) as RFC 3339 UTC with microseconds."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch(text: str) -> float:
    """Read an RFC 3339 time (any precision and offset, none = UTC) as seconds since 1970.

    Raises:
        ValueError: ``text`` is not an RFC 3339 time.
    """
    match = _RFC3339.match(text)
    if not match:
        message = f"not an RFC 3339 time: {text!r}"
        raise ValueError(message)
    day, clock, fraction, offset = match.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    zone = "+00:00" if offset in (None, "Z") else offset
    return datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}").timestamp()


def normal(text: str) -> str:
    """Rewrite any RFC 3339 time in the kit's own form."""
    return rfc3339(epoch(text))
