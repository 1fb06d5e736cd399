"""Changes of APIGraphs: what they are, when they may be made, how one ended; and where dev mode keeps APIGraphs."""

import itertools
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from turbo_operator.applier import Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.graph import environment_of
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import being_deleted
from turbo_operator.store import Store

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GraphChange:
    """One write of an APIGraph.

    Attributes:
        obj: The whole of a Create; otherwise the APIGraph as it is, and the write is bound to exactly this one.
        spec: The whole new spec of an Update.
        annotations: What an Update sets beside it.
    """

    verb: Literal["Create", "Update", "Delete"]
    obj: Object
    spec: Spec = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the APIGraph."""
        return str(self.obj["metadata"]["name"])

    def landed(self, present: Mapping[str, Any] | None) -> bool:
        """Whether the APIGraph, as it is now (None: there is none), is what the write makes of it."""
        metadata = self.obj["metadata"]
        if self.verb == "Delete":
            return present is None or present["metadata"].get("uid") != metadata["uid"] or being_deleted(present)
        if present is None:
            return False
        if self.verb == "Create":
            labels = present["metadata"].get("labels") or {}
            return _same(present, self.obj["spec"]) and labels.items() >= (metadata.get("labels") or {}).items()
        annotations = present["metadata"].get("annotations") or {}
        return (
            present["metadata"].get("uid") == metadata["uid"]
            and _same(present, self.spec)
            and annotations.items() >= self.annotations.items()
        )


class GraphWriteError(Exception):
    """An APIGraph was not written, or nobody knows whether it was.

    Attributes:
        status: The HTTP status that says why.
        code: The same in a word.
        result: How the write ended; None if none was sent.
    """

    def __init__(self, status: int, code: str, message: str, result: Result | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.result = result

    @classmethod
    def of(cls, change: GraphChange, result: Result) -> "GraphWriteError":
        """Of a write that did not end well."""
        what = f"{change.verb} of APIGraph {change.name}"
        if result.outcome == "unknown":
            return cls(503, "unknown", f"{what} may have landed: {result.message}", result)
        if result.http_status in {400, 422}:
            return cls(422, "refused", result.message, result)
        if result.outcome == "conflict":
            return cls(409, "conflict", result.message, result)
        codes = {403: (503, "forbidden"), 413: (413, "too_large")}
        return cls(*codes.get(result.http_status, (503, "unavailable")), f"{what}: {result.message}", result)


class GraphWriter(Protocol):
    """Where APIGraphs are kept. The methods never raise for what the API server or the network does."""

    def write(self, change: GraphChange) -> Result:
        """Carry out one change. The result has the APIGraph as it is stored, of a Delete what finalizers keep of it."""
        ...

    def read(self, change: GraphChange) -> Result:
        """What became of a change whose outcome is unknown: ok if it landed, failed if not, unknown if unread."""
        ...

    def write_status(self, obj: Object, status: Mapping[str, Any]) -> Result:
        """Replace the status of exactly this APIGraph."""
        ...


def change_to(
    spec: Spec,
    store: Store,
    *,
    source: str,
    traceparent: str | None = None,
    builder_store: str | None = None,
) -> GraphChange | None:
    """What makes the APIGraph of `spec` say `spec`; None if it does.

    Args:
        spec: The complete spec.
        store: The cache of APIGraphs.
        source: `builder` or `api`: who writes. The builder changes only what the builder made.
        traceparent: W3C trace context of the request it came with.
        builder_store: The builder's data store, remembered as proof that a later absence is a deletion.

    Raises:
        GraphWriteError: it is being deleted, or is not the source's to change.
    """
    name = names.graph_name(str(spec.get("environmentId")))
    present = store.get(name)
    annotations = {names.ANNOTATION_TRACEPARENT: traceparent, names.ANNOTATION_STORE: builder_store}
    wanted = {key: value for key, value in annotations.items() if value}
    if present is None:
        metadata: Object = {"name": name, "labels": {names.LABEL_SOURCE: source}, "annotations": wanted}
        body = {"apiVersion": names.GRAPH_API_VERSION, "kind": names.GRAPH_KIND, "metadata": metadata, "spec": spec}
        return GraphChange("Create", body)
    if being_deleted(present):
        raise GraphWriteError(409, "being_deleted", f"APIGraph {name} is being deleted")
    if (environment_id := environment_of(present)) != spec.get("environmentId"):
        raise GraphWriteError(409, "conflict", f"APIGraph {name} is that of environment {environment_id!r}")
    metadata = present["metadata"]
    owner = (metadata.get("labels") or {}).get(names.LABEL_SOURCE)
    if source == "builder" and owner != "builder":
        by = f"the {owner}" if owner else "hand"
        raise GraphWriteError(409, "conflict", f"APIGraph {name} was made by {by} and is not the builder's to change")
    known_store = (metadata.get("annotations") or {}).get(names.ANNOTATION_STORE)
    if _same(present, spec) and builder_store in {None, known_store}:
        return None
    return GraphChange("Update", present, spec, wanted)


def _same(present: Mapping[str, Any], spec: Spec) -> bool:
    return normalize(present.get("spec")) == normalize(spec)


def take(store: Store, change: GraphChange, result: Result) -> None:
    """Put into the cache what the answer to a write has told."""
    if result.obj is not None:
        store.put(result.obj)
    elif change.verb == "Delete" and result.outcome == "ok":
        store.remove(change.name, change.obj["metadata"]["uid"])


class MemoryGraphs:
    """Dev mode: APIGraphs in memory, with generations and versions as an API server counts them.

    A change is read, made and put into the store under one lock, so that none is lost to another.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._versions = itertools.count(1)

    def write(self, change: GraphChange) -> Result:
        """Carry out one change."""
        if change.verb == "Create":
            return self._create(change.obj)
        if change.verb == "Update":
            return self._update(change)
        return Result("ok", 200)  # nothing keeps it, and the caller takes it out of the cache

    def read(self, change: GraphChange) -> Result:
        """Nothing is ever unknown in memory."""
        present = self._store.get(change.name)
        return Result("ok" if change.landed(present) else "failed", obj=present)

    def _create(self, obj: Object) -> Result:
        created = {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": f"{next(self._versions):020d}"}
        return Result("ok", 201, self._stored({**obj, "metadata": {**obj["metadata"], **created}}))

    def _update(self, change: GraphChange) -> Result:
        with self._lock:
            present = self._store.get(change.name) or change.obj
            before = present["metadata"]
            metadata = {
                **before,
                "generation": before.get("generation", 0) + int(present.get("spec") != change.spec),
                "annotations": {**(before.get("annotations") or {}), **change.annotations},
            }
            return Result("ok", 200, self._stored({**present, "metadata": metadata, "spec": change.spec}))

    def write_status(self, obj: Object, status: Mapping[str, Any]) -> Result:
        """Keep the status."""
        with self._lock:
            present = self._store.get(obj["metadata"]["name"])
            if present is None or present["metadata"]["uid"] != obj["metadata"]["uid"]:
                return Result("conflict", 404, message="is gone")
            return Result("ok", 200, self._stored({**present, "status": status}))

    def _stored(self, obj: Object) -> Object:
        with self._lock:
            stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(next(self._versions))}}
            self._store.put(stored)
            return stored
