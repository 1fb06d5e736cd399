"""Watching one kind: list, then watch from there; cut, silent, expired or restarted servers are taken up again."""

import threading
import time
from typing import Any, Protocol

from k8s_e2e.base.files import DiskFull
from k8s_e2e.evidence import targets
from k8s_e2e.platform.kube import ApiError, Kube, Resource, Watch

INACTIVITY_S = 75.0  # the server's bookmarks come about once a minute
PAGE = 500
NOT_SERVED_S = 1.0  # a kind that is not there yet (a CRD) is asked for this often
DISK_FULL_S = 2.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_GONE = 410
_NOT_FOUND = 404
_FORBIDDEN = (401, 403)


class Sink(Protocol):
    """Who hears what a watcher sees."""

    def replace(self, kind: tuple[str, str], items: list[dict[str, Any]], version: str) -> None:
        """Take a whole list as of ``version``: what is not in it any more is gone."""

    def change(self, kind: tuple[str, str], change: str, obj: dict[str, Any]) -> None:
        """Take one ADDED, MODIFIED or DELETED object."""

    def note(self, event: str, **fields: Any) -> None:
        """Take a diagnostic."""


class Watcher(threading.Thread):
    """Keeps one kind of one namespace under watch until `stop`; ``ready`` is set after the first list or refusal."""

    def __init__(self, kube: Kube, kind: tuple[str, str], namespace: str, sink: Sink) -> None:
        super().__init__(name=f"watch-{kind[1]}", daemon=True)
        self.kind = kind
        self.ready = threading.Event()
        self.last_contact = time.monotonic()
        self._kube = kube
        self._namespace = namespace
        self._sink = sink
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._failures = 0

    def run(self) -> None:
        """List and watch, again and again."""
        while not self._stopping.is_set():
            try:
                self._once()
                self._failures = 0
            except ApiError as error:
                pause = self._pause(error)
                self.ready.set()
                self._stopping.wait(pause)
            except (DiskFull, OSError):  # what could not be written is written with a later list, if ever
                self.ready.set()
                self._stopping.wait(DISK_FULL_S)

    def stop(self) -> None:
        """End the watch; the thread follows."""
        self._stopping.set()
        if self._watch:
            self._watch.close()

    def catch_up(self) -> None:
        """List once more and hand the list on, whatever the watch has delivered.

        Raises:
            ApiError: refused or unanswered.
        """
        self._list(self._kube.resource(*self.kind))

    def _once(self) -> None:
        resource = self._kube.resource(*self.kind)
        version = self._list(resource)
        self.ready.set()
        while not self._stopping.is_set():
            namespace, name = targets.scope(resource, self._namespace)
            watch = self._kube.watch(
                resource, namespace, resource_version=version, name=name, inactivity_s=INACTIVITY_S
            )
            self._watch = watch
            began = time.monotonic()
            with watch:
                version, expired = self._follow(watch, version)
            if expired or watch.ended == "silent":
                return
            self._failures = 0
            if time.monotonic() - began < _BACKOFF_S[-1]:
                self._stopping.wait(_BACKOFF_S[0])

    def _list(self, resource: Resource) -> str:
        namespace, name = targets.scope(resource, self._namespace)
        selector = f"metadata.name={name}" if name else ""
        found = self._kube.list(*self.kind, namespace, field_selector=selector, limit=PAGE)
        self.last_contact = time.monotonic()
        version: str = found["metadata"].get("resourceVersion", "")
        self._sink.replace(self.kind, found["items"], version)
        return version

    def _follow(self, watch: Watch, version: str) -> tuple[str, bool]:
        """Hand events on until the watch ends; returns where to go on, and whether a new list is needed."""
        for event in watch:
            self.last_contact = time.monotonic()
            change, obj = event["type"], event.get("object") or {}
            if change == "ERROR":
                self._sink.note("watch.error", kind=self.kind[1], code=obj.get("code"), message=obj.get("message"))
                return version, True
            version = (obj.get("metadata") or {}).get("resourceVersion") or version
            if change != "BOOKMARK":
                self._sink.change(self.kind, change, obj)
            if self._stopping.is_set():
                break
        return version, False

    def _pause(self, error: ApiError) -> float:
        """Return how long to wait after ``error``, and say so once per row of failures."""
        if error.status:
            self.last_contact = time.monotonic()
        if error.status == _GONE:
            return 0.0
        if error.status == _NOT_FOUND:
            return NOT_SERVED_S
        if self._failures == 0:
            self._sink.note("watch.failed", kind=self.kind[1], error=str(error))
        self._failures += 1
        if error.status in _FORBIDDEN:
            return 30.0
        return _BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1]
