"""The gateway's configuration as a document that can be waited for."""

import asyncio
import hashlib
import json
import threading

from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.gateway_config import gateway_config
from turbo_operator.core.graph import Graph
from turbo_operator.core.plan import being_deleted
from turbo_operator.reconciler import Reconciler
from turbo_operator.store import Store, same_but_status

Document = tuple[bytes, str]
"""Body and ETag."""


class RouteTable:
    """Computes the configuration when graphs changed, and wakes those who wait for a new one."""

    def __init__(self, graphs: Store, reconciler: Reconciler) -> None:
        self._graphs = graphs
        self._reconciler = reconciler
        self._lock = threading.Lock()
        self._document: Document | None = None
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = False

    def observe(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Listener of the stores."""
        if kind == names.GRAPH_KIND and not same_but_status(old, new):
            with self._lock:
                self._document = None
            self._wake()

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        self._wake()

    def document(self) -> Document:
        """The configuration as it is now."""
        with self._lock:
            if self._document is None:
                graphs = [
                    (str(obj["metadata"].get("creationTimestamp") or ""), graph)
                    for obj in self._graphs.all()
                    if not being_deleted(obj) and isinstance(graph := self._reconciler.spec_of(obj), Graph)
                ]
                body = json.dumps(gateway_config(graphs), sort_keys=True, separators=(",", ":")).encode()
                self._document = body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            return self._document

    async def document_other_than(self, etags: set[str], wait_s: float) -> Document | None:
        """The configuration once its ETag is not one of `etags`; None if that takes longer than `wait_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            event = asyncio.Event()
            waiter = (loop, event)
            with self._lock:
                self._waiting.add(waiter)
            try:
                document = self.document()
                if document[1] not in etags and "*" not in etags:
                    return document
                left_s = deadline - loop.time()
                if left_s <= 0 or self._closed:
                    return None
                async with asyncio.timeout(left_s):
                    await event.wait()
            except TimeoutError:
                return None
            finally:
                with self._lock:
                    self._waiting.discard(waiter)

    def _wake(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)
