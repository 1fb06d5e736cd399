"""A live copy of some kinds of a namespace, kept by list and watch: react when something changes, never poll."""

import threading
import time
from collections.abc import Iterable
from typing import Any, Self

from k8s_e2e.platform.kube import ApiError, Kube, Watch

INACTIVITY_S = 30.0  # a watch that is silent for longer is opened again
BACKOFF_S = 0.5  # before a list that failed is tried again

Object = dict[str, Any]


class Mirror:
    """Objects of the given kinds, as the API server last said; a context manager, readable from any thread.

    Each kind has a thread that lists, then watches, and lists again when the watch ends: a list replaces everything, so
    what was deleted in a gap goes, too.
    """

    def __init__(self, kube: Kube, namespace: str, kinds: Iterable[tuple[str, str]]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._kinds = tuple(kinds)
        self._objects: dict[str, dict[str, Object]] = {}  # kind -> uid -> object
        self._errors: dict[str, str] = {}
        self._watches: dict[str, Watch] = {}
        self._changed = threading.Condition()
        self._version = 0
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=kind, name=f"mirror: {kind[1]}", daemon=True)
            for kind in self._kinds
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following; what was read stays readable."""
        self._closed.set()
        with self._changed:
            watches = list(self._watches.values())
            self._changed.notify_all()
        for watch in watches:
            watch.close()
        for thread in self._threads:
            thread.join(timeout=5)

    @property
    def version(self) -> int:
        """A number that grows with every change."""
        return self._version

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed once."""
        return len(self._objects) == len(self._kinds)

    @property
    def errors(self) -> dict[str, str]:
        """Kinds that cannot be read at the moment, and why."""
        with self._changed:
            return dict(self._errors)

    def objects(self, kind: str) -> list[Object]:
        """Return the objects of one kind; they are shared: do not change them."""
        with self._changed:
            return list(self._objects.get(kind, {}).values())

    def changed(self, since: int, timeout_s: float) -> bool:
        """Wait until `version` is past ``since``; false when ``timeout_s`` is over, or the mirror closed, first."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > since or self._closed.is_set(), timeout_s)
            return self._version > since

    def _follow(self, api_version: str, kind: str) -> None:
        while not self._closed.is_set():
            try:
                listed = self._kube.list(api_version, kind, self._namespace)
                self._update(kind, {obj["metadata"]["uid"]: obj for obj in listed["items"]})
                self._watch(api_version, kind, listed["metadata"]["resourceVersion"])
            except ApiError as error:
                with self._changed:
                    self._errors[kind] = str(error)
                    self._bump()
                self._closed.wait(BACKOFF_S)

    def _watch(self, api_version: str, kind: str, version: str) -> None:
        resource = self._kube.resource(api_version, kind)
        began = time.monotonic()
        with self._kube.watch(resource, self._namespace, resource_version=version, inactivity_s=INACTIVITY_S) as watch:
            with self._changed:
                self._watches[kind] = watch
            if self._closed.is_set():
                return
            for event in watch:
                if event["type"] == "ERROR":
                    break
                self._take(kind, event)
        if not self._closed.is_set() and time.monotonic() - began < BACKOFF_S:
            self._closed.wait(BACKOFF_S)  # never spin on a server that ends every watch at once

    def _take(self, kind: str, event: dict[str, Any]) -> None:
        uid = event["object"]["metadata"].get("uid", "")
        with self._changed:
            if event["type"] == "DELETED":
                self._objects[kind].pop(uid, None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                self._objects[kind][uid] = event["object"]
            else:
                return
            self._bump()

    def _update(self, kind: str, objects: dict[str, Object]) -> None:
        with self._changed:
            self._objects[kind] = objects
            self._errors.pop(kind, None)
            self._bump()

    def _bump(self) -> None:
        self._version += 1
        self._changed.notify_all()
