"""Keeps a `Store` equal to the API server: list, then watch, again and again.

A list replaces the store, so that what was deleted unseen is noticed. A watch resumes after the last complete event.
Every error waits before the next try; a version too old (410, as a status or inside the stream) lists again. A stream
that says nothing, not even a bookmark or its own end, for longer than it was asked to last is dead. Every ten minutes
there is a list all the same: an event that the API server never sent, or sent in the wrong order, is made good.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from turbo_operator import metrics
from turbo_operator.kube.client import ApiError, KubeClient, Unreachable
from turbo_operator.store import Store, version

_GONE = 410
_PAGE = 500
_TRIES_AT_ONE_PLACE = 3
_PROVEN_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of a list-watch, in seconds.

    Attributes:
        watch_s: How long the API server is asked to keep a watch open.
        silence_s: A watch is dead if nothing was read for that long; more than `watch_s`.
        backoff_s: Wait after a first error, doubled with each further one.
        longest_backoff_s: The longest wait.
        relist_s: After that long a watch that ended is followed by a list: a lost event is not lost for good.
    """

    watch_s: float = 45.0
    silence_s: float = 55.0
    backoff_s: float = 0.8
    longest_backoff_s: float = 15.0
    relist_s: float = 600.0


class ListWatch(threading.Thread):
    """Thread that feeds one store; daemon, so that a read in progress never keeps the process."""

    def __init__(self, client: KubeClient, store: Store, stopping: threading.Event, pace: Pace | None = None) -> None:
        super().__init__(name=f"watch-{store.kind}", daemon=True)
        self._client = client
        self._store = store
        self._stopping = stopping
        self._pace = pace or Pace()
        self._failures = 0
        self._resume: str | None = None
        """Version of the last complete event: where a watch goes on."""
        self._newest = 0
        """Highest version heard of; a complete list is never older, unless the API server's data was restored."""
        self._listed_at = 0.0
        self.last_heard = 0.0
        """Monotonic time of the last sign of life of the API server."""
        self._error: str | None = None
        self._opened_at: float | None = None
        """When the API server began to answer the watch in progress."""

    @property
    def last_error(self) -> str | None:
        """What went wrong last; None once a watch is open again for a moment: it may have nothing to say for long."""
        opened_at = self._opened_at
        proven = opened_at is not None and time.monotonic() - opened_at > _PROVEN_S
        return None if proven else self._error

    def silent_s(self) -> float:
        """Seconds since the API server was last heard of; infinite before the first list."""
        return time.monotonic() - self.last_heard if self.last_heard else float("inf")

    def run(self) -> None:
        """List and watch until the operator stops."""
        at: str | None = None
        while not self._stopping.is_set():
            try:
                if at is None:
                    at = self._list()
                at = self._watch(at)
                if time.monotonic() - self._listed_at > self._pace.relist_s:
                    at = None
            except (ApiError, Unreachable) as error:
                gone = isinstance(error, ApiError) and error.status == _GONE
                # What cannot be read three times at one place is passed by with a list.
                at = None if gone or self._failures >= _TRIES_AT_ONE_PLACE else self._resume
                self._wait(f"{error}", error.retry_after_s if isinstance(error, ApiError) else None)
            except Exception as error:
                log.exception("the watch of %s met something unexpected and lists again", self._store.kind)
                at = None
                self._wait(f"{type(error).__name__}: {error}", None)

    def _list(self) -> str:
        self._resume = None
        path, token = self._client.path(self._store.kind), ""
        items: list[dict[str, Any]] = []
        while True:
            query = {"limit": str(_PAGE)} | ({"continue": token} if token else {})
            page = self._client.request("GET", path, query=query)
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                break
        at = str(metadata.get("resourceVersion") or "0")
        at_version = int(at) if at.isdecimal() else 0
        if at_version < self._newest:
            log.warning("versions of %s went back from %d to %d", self._store.kind, self._newest, at_version)
        self._store.replace(items, at_version, anew=at_version < self._newest)
        self._newest = at_version
        self._listed_at = time.monotonic()
        self._alive()
        metrics.LISTS.labels(kind=self._store.kind).inc()
        self._resume = at
        return at

    def _watch(self, at: str) -> str:
        """One watch, to its orderly end; returns where the next one goes on."""
        self._resume = at
        started = time.monotonic()
        query = {
            "watch": "true",
            "resourceVersion": at,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(self._pace.watch_s * random.uniform(0.8, 1.0)))),  # noqa: S311
        }
        path = self._client.path(self._store.kind)
        for event in self._client.stream(path, query, silence_s=self._pace.silence_s, opened=self._opened):
            self._take(str(event.get("type")), event["object"])
            self._alive()
            if self._stopping.is_set():
                break
        if time.monotonic() - started < _PROVEN_S:  # whatever it said: the next one would end at once, too
            raise Unreachable(f"watch {path} ended at once", sent=True)
        self._alive()
        return self._resume

    def _take(self, kind: str, obj: dict[str, Any]) -> None:
        if kind == "ERROR":
            raise ApiError(int(obj.get("code") or 0), str(obj.get("reason")), str(obj.get("message")))
        metadata = obj.get("metadata") or {}
        if kind in {"ADDED", "MODIFIED"}:
            self._store.put(obj)
        elif kind == "DELETED":
            self._store.remove(metadata["name"], metadata.get("uid"))
        elif kind != "BOOKMARK":
            log.warning("the watch of %s sent an event of unknown type %r", self._store.kind, kind)
        if version(obj):
            self._resume = str(version(obj))
            self._newest = max(self._newest, version(obj))

    def _opened(self) -> None:
        self.last_heard = self._opened_at = time.monotonic()

    def _alive(self) -> None:
        self.last_heard = time.monotonic()
        if self._failures:
            log.info("the watch of %s goes on after %d errors", self._store.kind, self._failures)
        self._failures, self._error = 0, None

    def _wait(self, error: str, retry_after_s: float | None) -> None:
        if self._stopping.is_set():
            return
        self._failures += 1
        self._error, self._opened_at = error, None
        metrics.WATCH_ERRORS.labels(kind=self._store.kind).inc()
        pace = self._pace
        delay = min(pace.backoff_s * 2 ** min(self._failures - 1, 10), pace.longest_backoff_s)
        delay = max(delay * random.uniform(1.0, 1.3), retry_after_s or 0)  # noqa: S311 - spreads load, hides nothing
        level = logging.WARNING if self._failures in {1, 5} or self._failures % 20 == 0 else logging.DEBUG
        log.log(
            level, "the watch of %s waits %.1f s after error %d: %s", self._store.kind, delay, self._failures, error
        )
        self._stopping.wait(delay)
