"""Versions (semver.org 2.0) and ranges (npm's grammar: ``^1.2 || ~2.0``)."""

import re
from collections.abc import Iterable
from typing import Final

import nodesemver  # type: ignore[import-untyped]

LATEST: Final = "latest"
_DIGITS: Final = 12
# The grammar of semver.org 2.0, numbers bounded so that they fit a sort key.
_VERSION: Final = re.compile(
    r"(?P<numbers>(?:0|[1-9]\d{0,11})\.(?:0|[1-9]\d{0,11})\.(?:0|[1-9]\d{0,11}))"
    r"(?:-(?P<pre>(?:0|[1-9]\d{0,11}|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d{0,11}|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)


def is_version(text: str) -> bool:
    """Whether ``text`` is one exact version, like ``1.2.3-rc.1``."""
    return _VERSION.fullmatch(text) is not None


def is_prerelease(version: str) -> bool:
    """Whether ``version`` comes before a release: it is chosen only by ranges that name one."""
    match = _VERSION.fullmatch(version)
    return bool(match and match["pre"])


def is_range(text: str) -> bool:
    """Whether ``text`` is a range of npm's grammar; an empty one means any release."""
    return nodesemver.valid_range(text, False) is not None  # noqa: FBT003 - positional in the library


def satisfies(version: str, constraint: str) -> bool:
    """Whether ``version`` lies in the range ``constraint``."""
    return bool(nodesemver.satisfies(version, constraint, False))  # noqa: FBT003


def sort_key(version: str) -> str:
    """A string that sorts like the version (semver 11), build metadata last so that the order is total."""
    match = _VERSION.fullmatch(version)
    assert match is not None
    numbers = ".".join(part.zfill(_DIGITS) for part in match["numbers"].split("."))
    # "~" sorts after every identifier, so a release follows its prereleases; "!" before every character of one.
    identifiers = match["pre"].split(".") if match["pre"] else []
    pre = "!".join(f"0{part.zfill(_DIGITS)}" if part.isdigit() else f"1{part}" for part in identifiers) or "~"
    return f"{numbers} {pre} {version.partition('+')[2]}"


def newest(versions: Iterable[str], constraint: str) -> str | None:
    """The newest version that ``constraint`` (a range, or ``latest``) chooses.

    ``latest`` prefers releases over prereleases.
    """
    ordered = sorted(versions, key=sort_key, reverse=True)
    if constraint == LATEST:
        return next((v for v in ordered if not is_prerelease(v)), ordered[0] if ordered else None)
    return next((v for v in ordered if satisfies(v, constraint)), None)
