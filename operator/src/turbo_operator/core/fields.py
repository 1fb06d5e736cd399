"""Which fields of an object differ from what is wanted, and which are ours to remove.

Server-side apply records the fields an applier owns in `metadata.managedFields` as a tree: `f:<field>` for a field,
`k:{<keys>}` for an item of a keyed list, `v:<value>` for an item of a set, `.` for the item itself, and an empty
object for a leaf, which may be an atomic map or list. Source of the format:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.quantity import same_quantity

_IDENTITY = frozenset({"apiVersion", "kind", "metadata.name"})
OWNED_FIELDS = "ownedFields"
"""Key in `metadata` under which `slim` keeps our entry of managedFields, as JSON text (a tenth of the memory)."""


def slim(obj: Mapping[str, Any]) -> Object:
    """`obj` without what the operator never reads: of managedFields only our own applied fields are kept."""
    metadata = dict(obj["metadata"])
    managed = metadata.pop("managedFields", None) or ()
    metadata.pop("selfLink", None)
    for entry in managed:
        if entry.get("manager") == names.MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            metadata[OWNED_FIELDS] = json.dumps(entry.get("fieldsV1") or {}, sort_keys=True, separators=(",", ":"))
    return {**obj, "metadata": metadata}


def owned_fields(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The field tree the operator owns in a slim object; empty if it never applied it."""
    text = obj["metadata"].get(OWNED_FIELDS)
    return json.loads(text) if text else {}


def applied_fields(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The field tree of an applied object whose lists are all atomic: what dev mode keeps in place of a server's."""
    tree: dict[str, Any] = {}
    for key, value in wanted.items():
        tree[f"f:{key}"] = applied_fields(value) if isinstance(value, Mapping) and value else {}
    return tree


def differences(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the fields an apply of `wanted` would change in `observed` (a slim object), sorted.

    A field differs if its value does, if we do not own it (a later removal would not remove it), or if we own it and
    no longer want it. Fields of others are left alone.
    """
    found = set(_differences(wanted, observed, owned_fields(observed), ""))
    return tuple(sorted(found - _IDENTITY))


def _differences(wanted: Any, observed: Any, owned: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in wanted.items():
        here = f"{path}.{key}" if path else key
        if here in _IDENTITY:
            continue
        mine = owned.get(f"f:{key}")
        if mine is None or key not in observed:
            yield here
        else:
            yield from _compare(value, observed[key], mine, here)
    for marker in owned:
        if marker.startswith("f:") and marker[2:] not in wanted:
            yield f"{path}.{marker[2:]}" if path else marker[2:]


def _compare(wanted: Any, observed: Any, owned: Mapping[str, Any], path: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and owned:
        if isinstance(observed, Mapping):
            yield from _differences(wanted, observed, owned, path)
        else:
            yield path
    elif isinstance(wanted, list) and owned:
        yield from _compare_items(wanted, observed, owned, path)
    elif wanted != observed and not _equal(wanted, observed, path):
        yield path


def _compare_items(wanted: list[Any], observed: Any, owned: Mapping[str, Any], path: str) -> Iterator[str]:
    """A keyed list: items are matched by the keys that the server wrote down, foreign items are left alone."""
    present = observed if isinstance(observed, list) else []
    matched: set[int] = set()
    for marker, mine in owned.items():
        if not marker.startswith("k:"):
            continue
        keys = json.loads(marker[2:])
        here = f"{path}[{','.join(str(value) for value in keys.values())}]"
        index = _find(wanted, keys)
        item = _find(present, keys)
        if index is None or item is None:
            yield here  # owned and no longer wanted, or gone
            continue
        matched.add(index)
        yield from _compare(wanted[index], present[item], mine, here)
    for index, value in enumerate(wanted):
        if index not in matched:
            name = value.get("name", index) if isinstance(value, Mapping) else index
            yield f"{path}[{name}]"


def _find(items: list[Any], keys: Mapping[str, Any]) -> int | None:
    for index, item in enumerate(items):
        if all(item.get(key) == value for key, value in keys.items()):
            return index
    return None


def _equal(wanted: Any, observed: Any, path: str) -> bool:
    """Leaves that the server spells differently: quantities, and atomic values in which it fills in defaults."""
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and _contains(wanted, observed) and wanted.keys() == observed.keys()
    if isinstance(wanted, list):
        return (
            isinstance(observed, list)
            and len(wanted) == len(observed)
            and all(w == o or _contains(w, o) for w, o in zip(wanted, observed, strict=True))
        )
    return ".resources." in path and same_quantity(wanted, observed)


def _contains(wanted: Any, observed: Any) -> bool:
    if isinstance(wanted, Mapping) and isinstance(observed, Mapping):
        return all(key in observed and _contains(value, observed[key]) for key, value in wanted.items())
    return bool(wanted == observed)
