"""APIGraphs and Events on the API server."""

import logging
import queue
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from turbo_operator.applier import Result
from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.graphs import GraphRefusedError
from turbo_operator.kube.client import APPLY, JSON, ApiError, KubeClient, Unreachable
from turbo_operator.logs import timestamp

_CONFLICT, _NOT_FOUND, _TOO_LARGE, _UNPROCESSABLE = 409, 404, 413, 422
_ETCD_TOO_LARGE = ("request is too large", "larger than max")
"""In the 500 that the API server makes of etcd's refusal of an object beyond 1.5 or 2 MiB."""
_QUEUED_EVENTS = 500

log = logging.getLogger(__name__)


class KubernetesGraphs:
    """APIGraph objects in the client's namespace."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def create(self, obj: Object) -> Object:
        """POST; a field the CRD does not know is an error, not silently dropped."""
        return self._write("POST", self._client.path(names.GRAPH_KIND), obj)

    def update(self, obj: Object, spec: Mapping[str, Any], annotations: Mapping[str, str]) -> Object:
        """JSON patch: the spec is replaced as a whole, and a status written meanwhile is no conflict."""
        metadata = obj["metadata"]
        patch: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "replace", "path": "/spec", "value": spec},
        ]
        if metadata.get("annotations"):
            for key, value in annotations.items():
                pointer = key.replace("~", "~0").replace("/", "~1")
                patch.append({"op": "add", "path": f"/metadata/annotations/{pointer}", "value": value})
        elif annotations:
            patch.append({"op": "add", "path": "/metadata/annotations", "value": annotations})
        path = self._client.path(names.GRAPH_KIND, metadata["name"])
        return self._write("PATCH", path, patch, "application/json-patch+json")

    def delete(self, obj: Object) -> Object | None:
        """DELETE, bound to the uid; garbage collection removes the children."""
        metadata = obj["metadata"]
        options = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        try:
            path = self._client.path(names.GRAPH_KIND, metadata["name"])
            answer = self._client.request("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise _refused(error) from error
        except Unreachable as error:
            raise GraphRefusedError(503, "unavailable", str(error)) from error
        return answer if (answer.get("metadata") or {}).get("finalizers") else None

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

    def _write(self, method: str, path: str, body: Any, content_type: str = JSON) -> Object:
        query = {"fieldManager": names.MANAGER, "fieldValidation": "Strict"}
        try:
            return self._client.request(method, path, query=query, body=body, content_type=content_type)
        except ApiError as error:
            raise _refused(error) from error
        except Unreachable as error:
            raise GraphRefusedError(503, "unavailable", str(error)) from error


def _refused(error: ApiError) -> GraphRefusedError:
    if error.status == _CONFLICT:
        return GraphRefusedError(_CONFLICT, "conflict", error.message)
    if _too_large(error):
        text = f"the graph is larger than the API server takes, split the environment: {error.message}"
        return GraphRefusedError(_TOO_LARGE, "too_large", text)
    if error.status in {400, _UNPROCESSABLE}:
        return GraphRefusedError(_UNPROCESSABLE, "refused", error.message)
    if error.status == 403:  # noqa: PLR2004 - Forbidden
        return GraphRefusedError(503, "forbidden", f"the operator lacks a permission: {error.message}")
    return GraphRefusedError(503, "unavailable", str(error))


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
            log.warning("event dropped: %s %s", reason, message)

    def run(self) -> None:
        """Post until the operator stops."""
        while not self._stopping.is_set():
            try:
                graph, kind, reason, message, at = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            try:
                self._client.request(
                    "POST", self._client.path("Event"), body=self._event(graph, kind, reason, message, at)
                )
            except (ApiError, Unreachable) as error:
                log.warning("event not posted: %s", error, extra={"reason": reason})
            except Exception:
                log.exception("event not posted", extra={"reason": reason})

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
