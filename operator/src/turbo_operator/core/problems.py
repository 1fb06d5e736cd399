"""Reads the parts of a spec and collects what is wrong with them, as sentences that name the place."""

from collections.abc import Callable, Mapping
from typing import Any

from turbo_operator.core.rules import Rule

_LONGEST_TEXT = 253
_MOST_ENTRIES = 5000


class Problems:
    """Collects sentences; every reader below returns something usable, so that all problems are found at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, where: str, message: str) -> None:
        """One sentence about a place."""
        self.found.append(f"{where}: {message}")

    def keys(self, value: Mapping[str, Any], known: frozenset[str], where: str = "") -> None:
        """No key but the known ones."""
        for key in sorted(map(str, value.keys())):
            if key not in known:
                self.add(f"{where}.{key}" if where else key, f"unknown field (known: {', '.join(sorted(known))})")

    def mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        """An object; nothing counts as an empty one."""
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return value
        self.add(where, f"must be an object, not {type_name(value)}")
        return {}

    def sequence(self, value: Any, where: str) -> list[Any]:
        """A list of 5000 entries at most; nothing counts as an empty one."""
        if value is None:
            return []
        if isinstance(value, list):
            if len(value) > _MOST_ENTRIES:
                self.add(where, f"has {len(value)} entries, more than {_MOST_ENTRIES}")
            return value[:_MOST_ENTRIES]
        self.add(where, f"must be a list, not {type_name(value)}")
        return []

    def text(
        self,
        value: Any,
        where: str,
        rule: Rule | None = None,
        *,
        required: bool = True,
        longest: int = _LONGEST_TEXT,
    ) -> str:
        """A text that the rule allows and UTF-8 can carry; nothing counts as an empty one."""
        if value is None or value == "":
            if required:
                self.add(where, "is required")
            return ""
        if not isinstance(value, str):
            self.add(where, f"must be a string, not {type_name(value)}")
            return ""
        if rule is not None and not rule.allows(value):
            self.add(where, f"{shown(value)} is not {rule.words}")
            return ""
        if len(value) > longest:
            self.add(where, f"is longer than {longest} characters")
            return ""
        if not encodable(value):
            self.add(where, "holds characters that UTF-8 cannot carry")
            return ""
        return value

    def integer(self, value: Any, where: str, lowest: int, highest: int, default: int) -> int:
        """A whole number within limits, inclusive."""
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.add(where, f"must be a whole number, not {type_name(value)}")
            return default
        if not lowest <= value <= highest:
            self.add(where, f"must be {lowest} to {highest}, is {value}")
            return default
        return value

    def texts(
        self, value: Any, where: str, check_key: Callable[[str], str | None], *, most: int, largest_bytes: int
    ) -> dict[str, str]:
        """Texts by key, sorted; so many at most, and together no larger than that."""
        checked: dict[str, str] = {}
        given = self.mapping(value, where)
        if len(given) > most:
            self.add(where, f"has {len(given)} entries, more than {most}")
        for key, item in given.items():
            place = f"{where}[{key}]"
            complaint = check_key(key) if isinstance(key, str) else "keys must be strings"
            if complaint:
                self.add(place, complaint)
            elif not isinstance(item, str):
                self.add(place, f"must be a string, not {type_name(item)}; quote it")
            elif "\0" in item or not encodable(item):
                self.add(place, "holds characters that an environment or a file cannot carry")
            else:
                checked[key] = item
        size = sum(len(k.encode()) + len(v.encode()) for k, v in checked.items())
        if size > largest_bytes:
            self.add(where, f"is {size} bytes, more than the {largest_bytes} that fit")
        return dict(sorted(checked.items()))


def type_name(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    for types, name in (((bool,), "boolean"), ((int, float), "number"), ((str,), "string"), ((list,), "list")):
        if isinstance(value, types):
            return name
    return "object"


def shown(value: str) -> str:
    """A text in quotes, cut to what fits in a line."""
    return repr(value if len(value) <= 80 else value[:77] + "...")  # noqa: PLR2004 - a line's worth


def encodable(value: str) -> bool:
    """Whether UTF-8 can carry a text: half a surrogate pair it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
