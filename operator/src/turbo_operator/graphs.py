"""Writing APIGraphs: from the builder, from the HTTP API, and where they are kept in dev mode."""

import itertools
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from turbo_operator.applier import Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.graph import environment_of
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import being_deleted
from turbo_operator.store import Store

Spec = Mapping[str, Any]


class GraphRefusedError(Exception):
    """The APIGraph cannot be written. `status` is the HTTP status that says why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class GraphWriter(Protocol):
    """Where APIGraphs are kept. The methods raise `GraphRefusedError`."""

    def create(self, obj: Object) -> Object:
        """Make a new APIGraph; gives it back as it is stored."""
        ...

    def update(self, obj: Object, spec: Spec, annotations: Mapping[str, str]) -> Object:
        """Replace the spec of exactly this APIGraph, and set annotations; gives it back as it is stored."""
        ...

    def delete(self, obj: Object) -> Object | None:
        """Delete exactly this APIGraph; gives back what finalizers keep of it."""
        ...

    def write_status(self, obj: Object, status: Mapping[str, Any]) -> Result:
        """Replace the status of exactly this APIGraph."""
        ...


ANSWERED = {"Create": 201, "Update": 200, "Delete": 200}
"""The HTTP status of each kind of write when it succeeds: the API has no other for them."""


def upsert(
    writer: GraphWriter,
    store: Store,
    spec: Spec,
    *,
    source: str,
    traceparent: str | None = None,
    builder_store: str | None = None,
) -> tuple[str, Object]:
    """Make the APIGraph of `spec` say `spec`.

    Args:
        writer: Where to.
        store: The cache of APIGraphs; it has the result when this returns.
        spec: The complete spec.
        source: `builder` or `api`: who writes. The builder changes only what the builder made.
        traceparent: W3C trace context of the request it came with.
        builder_store: The builder's data store, remembered as proof that a later absence is a deletion.

    Returns:
        What was done (`Create`, `Update`, or an empty string) and the APIGraph.

    Raises:
        GraphRefusedError: it is being deleted, is not the source's to change, or was refused by the API server.
    """
    name = names.graph_name(str(spec.get("environmentId")))
    present = store.get(name)
    annotations = {names.ANNOTATION_TRACEPARENT: traceparent, names.ANNOTATION_STORE: builder_store}
    wanted = {key: value for key, value in annotations.items() if value}
    if present is None:
        metadata: Object = {"name": name, "labels": {names.LABEL_SOURCE: source}, "annotations": wanted}
        body = {"apiVersion": names.GRAPH_API_VERSION, "kind": names.GRAPH_KIND, "metadata": metadata, "spec": spec}
        made = writer.create(body)
        store.put(made)
        return "Create", made
    if being_deleted(present):
        raise GraphRefusedError(409, "being_deleted", f"APIGraph {name} is being deleted")
    if (environment_id := environment_of(present)) != spec.get("environmentId"):
        raise GraphRefusedError(409, "conflict", f"APIGraph {name} is that of environment {environment_id!r}")
    metadata = present["metadata"]
    owner = (metadata.get("labels") or {}).get(names.LABEL_SOURCE)
    if source == "builder" and owner != "builder":
        by = f"the {owner}" if owner else "hand"
        raise GraphRefusedError(409, "conflict", f"APIGraph {name} was made by {by} and is not the builder's to change")
    known_store = (metadata.get("annotations") or {}).get(names.ANNOTATION_STORE)
    if normalize(present.get("spec")) == normalize(spec) and builder_store in {None, known_store}:
        return "", present
    changed = writer.update(present, spec, wanted)
    store.put(changed)
    return "Update", changed


def remove(writer: GraphWriter, store: Store, obj: Object) -> None:
    """Delete an APIGraph; its children go by garbage collection."""
    left = writer.delete(obj)
    metadata = obj["metadata"]
    if left is None:
        store.remove(metadata["name"], metadata["uid"])
    else:
        store.put(left)


class MemoryGraphs:
    """Dev mode: APIGraphs in memory, with generations and versions as an API server counts them.

    A change is read, made and put into the store under one lock, so that none is lost to another.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._versions = itertools.count(1)

    def create(self, obj: Object) -> Object:
        """Keep a new APIGraph."""
        created = {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": f"{next(self._versions):020d}"}
        return self._stored({**obj, "metadata": {**obj["metadata"], **created}})

    def update(self, obj: Object, spec: Spec, annotations: Mapping[str, str]) -> Object:
        """Keep a changed one."""
        with self._lock:
            present = self._store.get(obj["metadata"]["name"]) or obj
            before = present["metadata"]
            metadata = {
                **before,
                "generation": before.get("generation", 0) + int(present.get("spec") != spec),
                "annotations": {**(before.get("annotations") or {}), **annotations},
            }
            return self._stored({**present, "metadata": metadata, "spec": spec})

    def delete(self, obj: Object) -> Object | None:  # noqa: ARG002 - nothing is left of it
        """Nothing keeps it."""
        return None

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
