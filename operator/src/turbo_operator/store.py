"""The cache of one kind: what the API server last showed, never older than what the operator itself wrote.

Objects in a store are shared between threads and are never changed in place.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.fields import slim

Listener = Callable[[str, Object | None, Object | None], None]
"""Called with (kind, object before, object after) after each change; None for absent."""

_REMEMBERED_DELETES = 4096


def version(obj: Mapping[str, Any]) -> int:
    """The resourceVersion as a number: since Kubernetes 1.35 it is specified to be one that grows."""
    text = str(obj["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0


def owners_of(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ownerReferences of an object."""
    return obj["metadata"].get("ownerReferences") or []


def graphs_of(obj: Mapping[str, Any]) -> set[str]:
    """Names of the APIGraphs an object belongs to, by its label and its owner."""
    metadata = obj["metadata"]
    found = {
        reference["name"]
        for reference in owners_of(obj)
        if reference.get("kind") == names.GRAPH_KIND and reference.get("name")
    }
    labels = metadata.get("labels") or {}
    if labels.get(names.LABEL_MANAGED_BY) == names.MANAGER and labels.get(names.LABEL_ENVIRONMENT):
        found.add(labels[names.LABEL_ENVIRONMENT])
    return found


class Store:
    """Objects of one kind by name, with an index by APIGraph. Thread-safe."""

    def __init__(self, kind: str, api_version: str, listener: Listener | None = None) -> None:
        self.kind = kind
        self._api_version = api_version
        self.listener = listener
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._by_graph: dict[str, set[str]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()  # uids of what was deleted, newest last
        self.synced = threading.Event()

    def get(self, name: str) -> Object | None:
        """The object of that name."""
        with self._lock:
            return self._objects.get(name)

    def all(self) -> list[Object]:
        """All objects."""
        with self._lock:
            return list(self._objects.values())

    def of_graph(self, graph: str) -> list[Object]:
        """The objects that belong to an APIGraph, by label or owner."""
        with self._lock:
            return [self._objects[name] for name in self._by_graph.get(graph, ())]

    def put(self, obj: Mapping[str, Any]) -> None:
        """Take in an object from a watch or from the answer to a write, unless it is old news."""
        name, uid = obj["metadata"]["name"], obj["metadata"].get("uid")
        with self._lock:
            old = self._objects.get(name)
            if uid in self._gone or (old is not None and version(obj) <= version(old)):
                return  # most often what the answer to a write has told already
            new = self._complete(obj)
            self._set(name, new)
        self._tell(old, new)

    def remove(self, name: str, uid: str | None) -> None:
        """An object is gone, by an event or the answer to our own delete; another one of the same name stays.

        A uid never comes back: what is still heard of it is old news.
        """
        with self._lock:
            if uid is not None:
                self._gone[uid] = None
                while len(self._gone) > _REMEMBERED_DELETES:
                    self._gone.popitem(last=False)
            old = self._objects.get(name)
            if old is None or (uid is not None and old["metadata"].get("uid") != uid):
                return
            self._set(name, None)
        self._tell(old, None)

    def replace(self, objects: Iterable[Mapping[str, Any]], at_version: int, *, anew: bool = False) -> None:
        """Take in a complete list: what is not in it is gone, unless we wrote it after the list was made.

        Args:
            objects: All objects of the kind.
            at_version: Version of the list.
            anew: Versions went back, as they do when a backup is restored: nothing known before counts.
        """
        listed = {obj["metadata"]["name"]: self._complete(obj) for obj in objects}
        changes: list[tuple[Object | None, Object | None]] = []
        with self._lock:
            if anew:
                self._gone.clear()
            for name, old in list(self._objects.items()):
                if name not in listed and (anew or version(old) <= at_version):
                    self._set(name, None)
                    changes.append((old, None))
            for name, new in listed.items():
                before = self._objects.get(name)
                newer = anew or before is None or version(new) > version(before)
                if newer and new["metadata"].get("uid") not in self._gone:
                    self._set(name, new)
                    changes.append((before, new))
        self.synced.set()
        for before, after in changes:
            self._tell(before, after)

    def _set(self, name: str, new: Object | None) -> None:
        old = self._objects.get(name)
        for graph in graphs_of(old) if old is not None else ():
            members = self._by_graph[graph]
            members.discard(name)
            if not members:
                del self._by_graph[graph]
        if new is None:
            self._objects.pop(name, None)
            return
        self._objects[name] = new
        for graph in graphs_of(new):
            self._by_graph.setdefault(graph, set()).add(name)

    def _complete(self, obj: Mapping[str, Any]) -> Object:
        """Items of lists carry neither kind nor apiVersion."""
        return {**slim(obj), "kind": self.kind, "apiVersion": self._api_version}

    def _tell(self, old: Object | None, new: Object | None) -> None:
        if self.listener is not None:
            self.listener(self.kind, old, new)


def same_but_status(old: Object | None, new: Object | None) -> bool:
    """Whether two states of an object differ in nothing a plan looks at."""
    if old is None or new is None:
        return False
    return _planned_part(old) == _planned_part(new)


def _planned_part(obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    annotations = metadata.get("annotations") or {}
    # Counted up by the Deployment controller with each rollout.
    metadata["annotations"] = {k: v for k, v in annotations.items() if k != "deployment.kubernetes.io/revision"}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}
