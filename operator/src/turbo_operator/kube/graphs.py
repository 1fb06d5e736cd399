"""APIGraphs and Events on the API server."""

import logging
import queue
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from turbo_operator import metrics
from turbo_operator.applier import Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.graphs import GraphChange
from turbo_operator.kube.client import APPLY, ApiError, KubeClient, Unreachable
from turbo_operator.kube.readback import read_back
from turbo_operator.logs import timestamp

_FORBIDDEN, _NOT_FOUND, _CONFLICT, _TOO_LARGE, _UNPROCESSABLE, _TOO_MANY, _TIMEOUT = 403, 404, 409, 413, 422, 429, 504
_ETCD_TOO_LARGE = ("request is too large", "larger than max")
"""In the 500 that the API server makes of etcd's refusal of an object beyond 1.5 or 2 MiB."""
_QUEUED_EVENTS = 500

log = logging.getLogger(__name__)


class KubernetesGraphs:
    """APIGraph objects in the client's namespace."""

    def __init__(self, client: KubeClient, stopping: threading.Event | None = None) -> None:
        self._client = client
        self._stopping = stopping or threading.Event()

    def write(self, change: GraphChange) -> Result:
        """Carry out one change; a lost answer is read back."""
        try:
            return self._send(change)
        except ApiError as error:
            if error.status == _TIMEOUT:
                return self._read_back(change, error.status, str(error))
            if error.status == _NOT_FOUND and change.verb == "Delete":
                return Result("ok", _NOT_FOUND, message="was gone already")
            return _not_written(change, error)
        except Unreachable as error:
            if not error.sent:
                return Result("failed", message=str(error), sent=False)
            return self._read_back(change, 0, str(error))

    def read(self, change: GraphChange) -> Result:
        """What became of a change whose outcome is unknown."""
        return self._read_back(change, 0, "outcome was unknown")

    def _send(self, change: GraphChange) -> Result:
        strictly = {"fieldManager": names.MANAGER, "fieldValidation": "Strict"}  # an unknown field is an error
        if change.verb == "Create":
            path = self._client.path(names.GRAPH_KIND)
            return Result("ok", 201, self._client.request("POST", path, query=strictly, body=change.obj))
        path = self._client.path(names.GRAPH_KIND, change.name)
        if change.verb == "Update":
            media_type = "application/json-patch+json"
            answer = self._client.request("PATCH", path, query=strictly, body=_patch(change), content_type=media_type)
            return Result("ok", 200, answer)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": change.obj["metadata"]["uid"]},
            "propagationPolicy": "Background",
        }
        answer = self._client.request("DELETE", path, body=options)
        return Result("ok", 200, answer if (answer.get("metadata") or {}).get("finalizers") else None)

    def _read_back(self, change: GraphChange, status: int, why: str) -> Result:
        client, stopping = self._client, self._stopping
        return read_back(client, stopping, names.GRAPH_KIND, change.name, landed=change.landed, status=status, why=why)

    def write_status(self, obj: Object, status: Mapping[str, Any]) -> Result:
        """Apply the status subresource, bound to the version the status was computed from.

        A uid would not bind it: the API server ignores the one in the status of a custom resource, and the status of
        a deleted graph could come to stand on another one of its name.
        """
        metadata = obj["metadata"]
        bound = {key: metadata[key] for key in ("name", "uid", "resourceVersion")}
        body = {
            "apiVersion": names.GRAPH_API_VERSION,
            "kind": names.GRAPH_KIND,
            "metadata": bound,
            "status": status,
        }
        path = self._client.path(names.GRAPH_KIND, metadata["name"], "status")
        query = {"fieldManager": names.MANAGER, "force": "true"}
        try:
            answer = self._client.request("PATCH", path, query=query, body=body, content_type=APPLY)
        except ApiError as error:
            if _too_large(error):
                return Result("failed", _TOO_LARGE, message=str(error), refused=True)
            gone = error.status in {_CONFLICT, _NOT_FOUND} or "metadata.uid" in error.causes
            return Result(
                "conflict" if gone else "failed", error.status, message=str(error), retry_after_s=error.retry_after_s
            )
        except Unreachable as error:
            return Result("unknown" if error.sent else "failed", message=str(error))
        return Result("ok", 200, answer)


def _patch(change: GraphChange) -> list[dict[str, Any]]:
    """JSON patch: the spec is replaced as a whole, and a status written meanwhile is no conflict."""
    metadata = change.obj["metadata"]
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "replace", "path": "/spec", "value": change.spec},
    ]
    if metadata.get("annotations"):
        for key, value in change.annotations.items():
            pointer = key.replace("~", "~0").replace("/", "~1")
            patch.append({"op": "add", "path": f"/metadata/annotations/{pointer}", "value": value})
    elif change.annotations:
        patch.append({"op": "add", "path": "/metadata/annotations", "value": change.annotations})
    return patch


def _not_written(change: GraphChange, error: ApiError) -> Result:
    if _too_large(error):
        text = f"the graph is larger than the API server takes, split the environment: {error.message}"
        return Result("failed", _TOO_LARGE, message=text, refused=True)
    if error.status == _CONFLICT or (error.status == _NOT_FOUND and change.verb == "Update"):
        return Result("conflict", error.status, message=error.message, retry_after_s=error.retry_after_s)
    text = error.message if error.status in {400, _UNPROCESSABLE} else str(error)
    if error.status == _FORBIDDEN:
        text = f"the operator lacks a permission: {error.message}"
    refused = 400 <= error.status < 500 and error.status != _TOO_MANY  # noqa: PLR2004 - client errors
    return Result("failed", error.status, message=text, retry_after_s=error.retry_after_s, refused=refused)


def _too_large(error: ApiError) -> bool:
    return error.status == _TOO_LARGE or any(words in error.message for words in _ETCD_TOO_LARGE)


class EventRecorder(threading.Thread):
    """Posts Kubernetes Events about APIGraphs from a bounded queue: they never hold up or fail a reconcile."""

    def __init__(self, client: KubeClient, stopping: threading.Event) -> None:
        super().__init__(name="events", daemon=True)
        self._client = client
        self._stopping = stopping
        self._queue: queue.Queue[tuple[Object, str, str, str, float]] = queue.Queue(_QUEUED_EVENTS)

    def tell(self, graph: Object, kind: str, reason: str, message: str, at: float) -> None:
        """Queue an Event of `kind` Normal or Warning; dropped with a log line when the queue is full."""
        try:
            self._queue.put_nowait((graph, kind, reason, message, at))
        except queue.Full:
            metrics.EVENTS.labels(outcome="dropped").inc()
            log.warning("event dropped: %s %s", reason, message)

    def run(self) -> None:
        """Post until the operator stops."""
        while not self._stopping.is_set():
            try:
                graph, kind, reason, message, at = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            outcome = "failed"
            try:
                self._client.request(
                    "POST", self._client.path("Event"), body=self._event(graph, kind, reason, message, at)
                )
                outcome = "posted"
            except (ApiError, Unreachable) as error:
                log.warning("event not posted: %s", error, extra={"reason": reason})
            except Exception:
                log.exception("event not posted", extra={"reason": reason})
            metrics.EVENTS.labels(outcome=outcome).inc()

    def _event(self, graph: Object, kind: str, reason: str, message: str, at: float) -> dict[str, Any]:
        metadata = graph["metadata"]
        seconds = timestamp(at)[:19] + "Z"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": self._client.namespace},
            "involvedObject": {
                "apiVersion": names.GRAPH_API_VERSION,
                "kind": names.GRAPH_KIND,
                "name": metadata["name"],
                "namespace": self._client.namespace,
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion"),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": names.MANAGER},
            "reportingComponent": names.MANAGER,
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "count": 1,
        }
