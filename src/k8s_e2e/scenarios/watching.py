"""A watch as an alarm clock: whoever waits for a live object sleeps until something about it has changed.

What is judged is always read anew; the watch only says when. So a lost event costs a pause, never a wrong verdict.
"""

import threading
import time
from contextlib import suppress
from typing import Any, Self

from k8s_e2e.platform.kube import ApiError, Kube, Resource

RETRY_S = 0.2
SETTLE_S = 0.02  # changes come in bursts; one look for all of them


class Alarm:
    """Rings when an object of one kind changes: in one namespace, of one name or selector."""

    def __init__(
        self, kube: Kube, resource: Resource, namespace: str, *, version: str, name: str = "", selector: str = ""
    ) -> None:
        self._kube = kube
        self._resource = resource
        self._namespace = namespace
        self._version = version
        self._name = name
        self._selector = selector
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._watch: Any = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, name=f"alarm: {resource.plural}", daemon=True)
        self._thread.start()

    def pause(self, longest_s: float) -> None:
        """Sleep until something has changed since the last pause, at most ``longest_s``."""
        if self._changed.wait(longest_s):
            time.sleep(min(SETTLE_S, longest_s))
            self._changed.clear()

    def close(self) -> None:
        """End the watch."""
        with self._lock:
            self._closed.set()
            watch = self._watch
        if watch:
            watch.close()
        self._thread.join(timeout=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        while not self._closed.is_set():
            with suppress(ApiError):
                self._watch_once()
            self._closed.wait(RETRY_S)

    def _watch_once(self) -> None:
        version, self._version = self._version, ""
        watch = self._kube.watch(
            self._resource, self._namespace, resource_version=version, name=self._name, selector=self._selector
        )
        with self._lock:
            self._watch = watch
        if self._closed.is_set():
            watch.close()
        for event in watch:
            if event["type"] == "ERROR":
                break
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._changed.set()
        watch.close()
        self._changed.set()
