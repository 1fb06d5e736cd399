"""Which fields of an object differ from what is wanted, and which are ours to remove.

Server-side apply records the fields an applier owns in `metadata.managedFields` as a tree: `f:<field>` for a field,
`k:{<keys>}` for an item of a keyed list, `v:<value>` for an item of a set, `.` for the item itself, and an empty
object for a leaf, which may be an atomic map or list. Source of the format:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import json
from collections.abc import Mapping
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


_LIST_KEYS = {"ports": ("containerPort", "port"), "containers": ("name",)}
"""By which field the entries of a keyed list are told apart: the first that they have."""


def applied_fields(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The field tree of an applied object: what dev mode keeps in place of a server's."""
    tree: dict[str, Any] = {}
    for field, value in wanted.items():
        tree[f"f:{field}"] = {}
        if isinstance(value, Mapping):
            tree[f"f:{field}"] = applied_fields(value)
        elif field in _LIST_KEYS and isinstance(value, list):  # an env variable may be named so, too
            for item in value:
                key = next(key for key in _LIST_KEYS[field] if key in item)
                tree[f"f:{field}"]["k:" + json.dumps({key: item[key]})] = applied_fields(item)
    return tree


def differences(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the fields an apply of `wanted` would change in `observed` (a slim object), sorted.

    A field differs if its value does, if we do not own it (a later removal would not remove it), or if we own it and
    no longer want it. Fields of others are left alone.
    """
    found: list[str] = []
    _compare_fields(wanted, observed, owned_fields(observed), "", found)
    return tuple(sorted(set(found) - _IDENTITY))


def _compare_fields(wanted: Any, observed: Any, owned: Mapping[str, Any], path: str, found: list[str]) -> None:
    prefix = f"{path}." if path else ""
    for key, value in wanted.items():
        mine = owned.get("f:" + key)
        if mine is None or key not in observed:
            found.append(prefix + key)
        elif mine or value != observed[key]:  # an equal leaf needs no closer look
            _compare(value, observed[key], mine, prefix + key, found)
    found += [prefix + marker[2:] for marker in owned if marker[:2] == "f:" and marker[2:] not in wanted]


def _compare(wanted: Any, observed: Any, owned: Mapping[str, Any], path: str, found: list[str]) -> None:
    if owned and isinstance(wanted, dict) and isinstance(observed, dict):
        _compare_fields(wanted, observed, owned, path, found)
    elif owned and isinstance(wanted, list):
        _compare_items(wanted, observed, owned, path, found)
    elif wanted != observed and not _equal(wanted, observed, path):
        found.append(path)


def _compare_items(wanted: list[Any], observed: Any, owned: Mapping[str, Any], path: str, found: list[str]) -> None:
    """A keyed list: items are matched by the keys that the server wrote down, foreign items are left alone."""
    present = observed if isinstance(observed, list) else []
    matched: set[int] = set()
    for marker, mine in owned.items():
        if marker[:2] != "k:":
            continue
        keys = json.loads(marker[2:])
        here = f"{path}[{','.join(str(value) for value in keys.values())}]"
        index, item = _find(wanted, keys), _find(present, keys)
        if index is None or item is None:
            found.append(here)  # owned and no longer wanted, or gone
            continue
        matched.add(index)
        _compare(wanted[index], present[item], mine, here, found)
    for index, value in enumerate(wanted):
        if index not in matched:
            found.append(f"{path}[{value.get('name', index) if isinstance(value, dict) else index}]")


def displaced(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> str | None:
    """The keyed list of an applied object in which somebody put another entry in the place of ours; None if none is.

    Server-side apply would add ours beside it: two ports of one name, which is refused, or two containers. An entry
    that was added while ours stayed is somebody's business.
    """
    if OWNED_FIELDS not in observed["metadata"]:
        return None
    return _displaced(wanted, observed, owned_fields(observed), "")


def _displaced(
    wanted: Mapping[str, Any], observed: Mapping[str, Any], owned: Mapping[str, Any], path: str
) -> str | None:
    for field, value in wanted.items():
        present, mine, here = observed.get(field), owned.get(f"f:{field}") or {}, f"{path}.{field}".lstrip(".")
        found = None
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            found = _displaced(value, present, mine, here)
        elif field in _LIST_KEYS and isinstance(present, list) and owned.get(f"f:{field}") != {}:  # not all ours
            found = _displaced_items(value, present, mine, here, _LIST_KEYS[field])
        if found:
            return found
    return None


def _displaced_items(
    wanted: list[Any], present: list[Any], owned: Mapping[str, Any], path: str, keys: tuple[str, ...]
) -> str | None:
    def key_of(item: Mapping[str, Any]) -> Any:
        return next((item[key] for key in keys if key in item), None)

    mine = {key_of(json.loads(marker[2:])): fields for marker, fields in owned.items() if marker[:2] == "k:"}
    there = {key_of(item): item for item in present}
    wanted_keys = {key_of(item) for item in wanted}
    # What we own and no longer want goes with the next apply: then the graph has changed, not somebody the object.
    if not (there.keys() & mine.keys()) - wanted_keys:
        missing = [item for item in wanted if key_of(item) not in there]
        foreign = [item for key, item in there.items() if key not in wanted_keys]
        # An entry that the graph gained is missing, too; its place is taken where its name is, or where none is ours.
        taken = {item.get("name") for item in missing} & {item.get("name") for item in foreign}
        if missing and foreign and (taken or not there.keys() & wanted_keys):
            return path
    for item in wanted:
        name = key_of(item)
        if name in there:
            found = _displaced(item, there[name], mine.get(name, {}), f"{path}[{name}]")
            if found:
                return found
    return None


def _find(items: list[Any], keys: Mapping[str, Any]) -> int | None:
    for index, item in enumerate(items):
        if all(item.get(key) == value for key, value in keys.items()):
            return index
    return None


def _equal(wanted: Any, observed: Any, path: str) -> bool:
    """Leaves that the server spells differently: quantities, and atomic values in which it fills in defaults."""
    if isinstance(wanted, dict):
        return isinstance(observed, dict) and _contains(wanted, observed) and wanted.keys() == observed.keys()
    if isinstance(wanted, list):
        return (
            isinstance(observed, list)
            and len(wanted) == len(observed)
            and all(w == o or _contains(w, o) for w, o in zip(wanted, observed, strict=True))
        )
    return ".resources." in path and same_quantity(wanted, observed)


def _contains(wanted: Any, observed: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(observed, dict):
        return all(key in observed and _contains(value, observed[key]) for key, value in wanted.items())
    return bool(wanted == observed)
