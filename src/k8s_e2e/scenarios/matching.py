"""Subset matching: is everything that was asked for in what is there, and if not, what differs.

A mapping matches if each of its keys does; further keys do not matter. A list matches if each of its items matches an
item of its own, in any order; an empty list matches an empty one only. Null means: absent, or null. Text, numbers and
booleans must be equal and of the same type (1 and 1.0 are, "1" is not).
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

MOST_SHOWN = 3  # differences named in one line
_WIDTH = 120


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


class Difference(NamedTuple):
    """One thing that was asked for and is not so."""

    path: str
    expected: Any
    actual: Any

    def __str__(self) -> str:
        if self.expected is None:
            return f"{self.path or 'it'} is {shown(self.actual)}, expected nothing"
        if self.actual is MISSING:
            return f"{self.path or 'it'} is missing, expected {shown(self.expected)}"
        return f"{self.path or 'it'} is {shown(self.actual)}, expected {shown(self.expected)}"


def differences(expected: Any, actual: Any, path: str = "") -> list[Difference]:
    """Return what keeps ``actual`` from holding ``expected``; none = it matches."""
    if expected is None:
        return [] if actual is None or actual is MISSING else [Difference(path, None, actual)]
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            return [Difference(path, expected, actual)]
        return [
            difference
            for key, value in expected.items()
            for difference in differences(value, actual.get(key, MISSING), _inside(path, key))
        ]
    if isinstance(expected, list):
        if not isinstance(actual, list) or (not expected and actual):
            return [Difference(path, expected, actual)]
        found = []
        for index, (item, partner) in enumerate(_paired(expected, actual)):
            found += differences(item, partner, f"{path}[{_label(item, index)}]")
        return found
    return [] if _equal(expected, actual) else [Difference(path, expected, actual)]


def part(expected: Any, actual: Any) -> Any:
    """Return that part of ``actual`` which ``expected`` speaks of, in its order: what to lay beside it."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return {key: part(value, actual[key]) for key, value in expected.items() if key in actual}
    if isinstance(expected, list) and expected and isinstance(actual, list):
        return [part(item, partner) for item, partner in _paired(expected, actual) if partner is not MISSING]
    return None if actual is MISSING else actual


def summary(found: list[Difference]) -> str:
    """Return the first differences in one line."""
    more = f" (and {len(found) - MOST_SHOWN} more)" if len(found) > MOST_SHOWN else ""
    return "; ".join(map(str, found[:MOST_SHOWN])) + more


def diff(expected: Any, actual: Any, *, title: str = "actual") -> str:
    """Return a unified diff of two values written as YAML; empty if they are equal."""
    lines = difflib.unified_diff(
        _yaml(expected), _yaml(actual), fromfile="expected", tofile=title, lineterm="", n=1_000
    )
    return "\n".join(line for line in lines if not line.startswith("@@"))


def nearest(expected: Mapping[str, Any], objects: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the object that comes closest: fewest differences, then the most similar name."""
    wanted = str((expected.get("metadata") or {}).get("name") or "")

    def distance(candidate: Mapping[str, Any]) -> tuple[int, float, str]:
        name = str(candidate["metadata"].get("name", ""))
        unlike = 1 - difflib.SequenceMatcher(None, wanted, name).ratio() if wanted else 0.0
        return len(differences(expected, candidate)), unlike, name

    return min(objects, key=distance, default=None)


def shown(value: Any, limit: int = _WIDTH) -> str:
    """Return a value on one line of at most ``limit`` characters."""
    text = "nothing" if value is MISSING else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _paired(expected: list[Any], actual: list[Any]) -> list[tuple[Any, Any]]:
    """Give each expected item an item of its own: one that matches, else one of the same name, else the nearest."""
    rest = list(actual)
    partners: dict[int, Any] = {}
    for index, item in enumerate(expected):
        at = next((at for at, candidate in enumerate(rest) if not differences(item, candidate)), None)
        if at is not None:
            partners[index] = rest.pop(at)
    for index, item in enumerate(expected):
        if index not in partners and rest:
            gaps = [(not _same_name(item, other), len(differences(item, other)), at) for at, other in enumerate(rest)]
            partners[index] = rest.pop(min(gaps)[-1])
    return [(item, partners.get(index, MISSING)) for index, item in enumerate(expected)]


def _same_name(item: Any, candidate: Any) -> bool:
    named = isinstance(item, Mapping) and isinstance(candidate, Mapping) and "name" in item
    return named and item["name"] == candidate.get("name")


def _label(item: Any, index: int) -> str:
    return str(item["name"]) if isinstance(item, Mapping) and isinstance(item.get("name"), str) else str(index)


def _equal(expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return bool(expected == actual)


def _inside(path: str, key: str) -> str:
    plain = key.replace("_", "").replace("-", "").isalnum()
    return f"{path}.{key}".lstrip(".") if plain else f'{path}["{key}"]'


def _yaml(value: Any) -> list[str]:
    text = yaml.safe_dump(
        json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text.rstrip("\n").removesuffix("\n...").split("\n")
