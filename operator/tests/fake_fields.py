"""Field management of server-side apply for the fake API server: who owns which fields, and what an apply changes.

A field is a path such as ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name"); "." at its end is an item
of a keyed list itself. Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

Path = tuple[str, ...]

_KEYED: dict[tuple[str, str], tuple[str, ...]] = {
    ("Service", "spec.ports"): ("port", "protocol"),
    ("Deployment", "spec.template.spec.containers"): ("name",),
    ("Deployment", "spec.template.spec.containers.ports"): ("containerPort", "protocol"),
    ("APIGraph", "spec.components"): ("packageName",),
    ("APIGraph", "spec.ingress.routes"): ("path",),
    ("APIGraph", "status.conditions"): ("type",),
}
"""Keys of the lists whose items are merged one by one; other lists are replaced as a whole."""
_ATOMIC = {("Service", "spec.selector"), ("Deployment", "spec.selector")}
_WHOLE_ITEMS = "metadata.ownerReferences"
"""A keyed list whose items are replaced as a whole."""
_DEFAULT_KEYS = {"protocol": "TCP"}
_SERVERS_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")
_UNOWNED = {"apiVersion", "kind", "metadata.name", "metadata.namespace", *(f"metadata.{key}" for key in _SERVERS_OWN)}


def keys_of(kind: str, where: str) -> tuple[str, ...]:
    """The keys of a keyed list, none for an atomic one; `where` has dots between fields and no indices."""
    return ("uid",) if where == _WHOLE_ITEMS else _KEYED.get((kind, where), ())


def marker(item: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The path element of an item of a keyed list."""
    values = {key: item.get(key, _DEFAULT_KEYS.get(key)) for key in keys}
    return "k:" + json.dumps(values, separators=(",", ":"))


def fields_of(kind: str, obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Every field an applier of `obj` owns, with its value."""
    found: dict[Path, Any] = {}
    _walk(kind, obj, (), "", found)
    return found


def _walk(kind: str, value: Mapping[str, Any], path: Path, where: str, found: dict[Path, Any]) -> None:
    for key, part in value.items():
        here = f"{where}.{key}" if where else key
        if here in _UNOWNED:
            continue
        keys = keys_of(kind, here)
        if isinstance(part, dict) and part and (kind, here) not in _ATOMIC:
            _walk(kind, part, (*path, f"f:{key}"), here, found)
        elif isinstance(part, list) and part and keys:
            for item in part:
                item_path = (*path, f"f:{key}", marker(item, keys))
                if here == _WHOLE_ITEMS:
                    found[item_path] = item
                    continue
                found[(*item_path, ".")] = None
                _walk(kind, item, item_path, here, found)
        else:
            found[(*path, f"f:{key}")] = part


def tree(paths: Iterable[Path]) -> dict[str, Any]:
    """The paths in the form of `fieldsV1`."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
    return root


def paths(fields: Mapping[str, Any], start: Path = ()) -> set[Path]:
    """The paths of a `fieldsV1`."""
    found: set[Path] = set()
    for element, below in fields.items():
        found |= paths(below, (*start, element)) if below else {(*start, element)}
    return found


class Owners:
    """The `managedFields` of an object as sets of paths, by (manager, operation, subresource)."""

    def __init__(self, obj: Mapping[str, Any]) -> None:
        self._times: dict[tuple[str, str, str], str] = {}
        self.sets: dict[tuple[str, str, str], set[Path]] = {}
        for entry in obj["metadata"].get("managedFields") or ():
            key = (entry["manager"], entry["operation"], entry.get("subresource", ""))
            self.sets[key] = paths(entry["fieldsV1"])
            self._times[key] = entry["time"]

    def entries(self, api_version: str, now: str) -> list[dict[str, Any]]:
        """As `managedFields`; an owner of nothing is none."""
        return [
            {
                "manager": manager,
                "operation": operation,
                "apiVersion": api_version,
                "time": self._times.get((manager, operation, subresource), now),
                "fieldsType": "FieldsV1",
                "fieldsV1": tree(owned),
                **({"subresource": subresource} if subresource else {}),
            }
            for (manager, operation, subresource), owned in self.sets.items()
            if owned
        ]

    def take(self, key: tuple[str, str, str], taken: set[Path], gone: set[Path]) -> None:
        """An update by `key` changed `taken` and removed `gone`."""
        for owned in self.sets.values():
            owned.difference_update(taken, gone)
        self.sets.setdefault(key, set()).update(taken)


def conflicts(owners: Owners, key: tuple[str, str, str], live: Mapping[Path, Any], wanted: Mapping[Path, Any]) -> Any:
    """(manager, path) of the fields that others own with another value."""
    return [
        (other[0], path)
        for other, owned in owners.sets.items()
        if other != key
        for path in sorted(owned & wanted.keys())
        if path in live and live[path] != wanted[path]
    ]


def apply(kind: str, live: dict[str, Any], body: Mapping[str, Any], owners: Owners, key: Any) -> dict[str, Any]:
    """`live` after a forced apply of `body` by `key`: its fields are set, what it no longer names is removed."""
    result = copy.deepcopy(live)
    wanted, before = fields_of(kind, body), owners.sets.get(key, set())
    for _, path in conflicts(owners, key, fields_of(kind, live), wanted):
        for owned in owners.sets.values():
            owned.discard(path)
    others = {path for other, owned in owners.sets.items() if other != key for path in owned}
    for path in sorted(before - wanted.keys() - others, key=lambda path: (path[-1] != ".", -len(path))):
        if path[-1] != "." or not any(each[: len(path) - 1] == path[:-1] for each in others):
            _remove(result, path[:-1] if path[-1] == "." else path)
    _merge(kind, result, body, "")
    owners.sets[key] = set(wanted)
    return result


def _item(items: list[Any], element: str) -> Any:
    wanted = json.loads(element[2:])
    return next((each for each in items if marker(each, wanted) == element), None)


def _remove(value: Any, path: Path) -> None:
    """Remove a field, and the containers that are empty without it."""
    element, rest = path[0], path[1:]
    if element[:2] == "k:":
        item = _item(value, element)
        if item is not None and rest:
            _remove(item, rest)
        elif item is not None:
            value.remove(item)
        return
    name = element[2:]
    if not isinstance(value, dict) or name not in value:
        return
    if rest:
        _remove(value[name], rest)
    if not rest or value[name] in ({}, []):
        del value[name]


def _merge(kind: str, target: dict[str, Any], body: Mapping[str, Any], where: str) -> None:
    for key, part in body.items():
        here = f"{where}.{key}" if where else key
        if here in _UNOWNED:
            continue
        keys = keys_of(kind, here)
        if isinstance(part, dict) and (kind, here) not in _ATOMIC:
            _merge(kind, target.setdefault(key, {}), part, here)
        elif isinstance(part, list) and keys:
            items = target.setdefault(key, [])
            for each in part:
                item = _item(items, marker(each, keys))
                if item is None:
                    items.append(copy.deepcopy(each))
                elif here == _WHOLE_ITEMS:
                    items[items.index(item)] = copy.deepcopy(each)
                else:
                    _merge(kind, item, each, here)
        else:
            target[key] = copy.deepcopy(part)
