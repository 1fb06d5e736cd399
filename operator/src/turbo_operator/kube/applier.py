"""Writes actions to the API server by server-side apply.

Each write is bound to what it was planned for. A Create carries a resourceVersion that no existing object has, which
the API server ignores where the object is missing and answers with 409 where it exists; so a create never takes over
an object that came up meanwhile. An Update and a Delete carry the uid. A write whose answer was lost is read back.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turbo_operator.applier import Result
from turbo_operator.core import names
from turbo_operator.core.fields import differences, slim
from turbo_operator.core.plan import Action
from turbo_operator.kube.client import APPLY, ApiError, KubeClient, Unreachable
from turbo_operator.kube.readback import read_back

_NEVER_A_VERSION = "1"
"""etcd counts revisions for the whole store, and its first one predates the first object."""
_CONFLICT, _NOT_FOUND, _INVALID, _TOO_MANY, _TIMEOUT = 409, 404, 422, 429, 504


class KubernetesApplier:
    """The applier of k8s mode."""

    simulated = False

    def __init__(self, client: KubeClient, stopping: threading.Event | None = None) -> None:
        self._client = client
        self._stopping = stopping or threading.Event()

    def write(self, action: Action) -> Result:
        """Carry out one action."""
        try:
            if action.verb == "Delete":
                return self._deleted(self._delete(action))
            return Result("ok", 200 if action.verb == "Update" else 201, self._complete(action, self._apply(action)))
        except ApiError as error:
            return self._refused(action, error)
        except Unreachable as error:
            if not error.sent:
                return Result("failed", 0, message=str(error), sent=False)
            return self._read_back(action, 0, str(error))

    def read(self, action: Action) -> Result:
        """What became of an action whose outcome is unknown: ok if it landed, failed if not, unknown if unread."""
        return self._read_back(action, 0, "outcome was unknown")

    def _apply(self, action: Action) -> dict[str, Any]:
        assert action.body is not None
        bound = {"resourceVersion": _NEVER_A_VERSION} if action.verb == "Create" else {"uid": action.uid}
        body = {**action.body, "metadata": {**action.body["metadata"], **bound}}
        query = {"fieldManager": names.MANAGER, "force": "true"}
        path = self._client.path(action.kind, action.name)
        return self._client.request("PATCH", path, query=query, body=body, content_type=APPLY)

    def _delete(self, action: Action) -> dict[str, Any]:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": action.uid},
            "propagationPolicy": "Background",
        }
        return self._client.request("DELETE", self._client.path(action.kind, action.name), body=options)

    @staticmethod
    def _deleted(answer: dict[str, Any]) -> Result:
        """The object itself comes back where finalizers keep it."""
        still_there = answer.get("kind") != "Status" and bool((answer.get("metadata") or {}).get("finalizers"))
        return Result("ok", 200, slim(answer) if still_there else None)

    def _refused(self, action: Action, error: ApiError) -> Result:
        if error.status == _NOT_FOUND and action.verb == "Delete":
            return Result("ok", _NOT_FOUND, message="was gone already")
        stale_uid = error.status == _INVALID and "metadata.uid" in error.causes
        if error.status == _CONFLICT or stale_uid:
            result = self._read_back(action, error.status, error.message)
            # Whoever stands there now is not what was planned for: it is planned anew with what was read.
            return Result("conflict", error.status, result.obj, error.message, retry_after_s=error.retry_after_s)
        if error.status == _TIMEOUT:
            return self._read_back(action, error.status, str(error))
        return Result(
            "failed",
            error.status,
            message=str(error),
            retry_after_s=error.retry_after_s,
            refused=400 <= error.status < 500 and error.status != _TOO_MANY,  # noqa: PLR2004 - client errors
        )

    def _read_back(self, action: Action, status: int, why: str) -> Result:
        def landed(answer: Mapping[str, Any] | None) -> bool:
            if action.verb == "Delete":
                metadata = answer["metadata"] if answer is not None else {}
                return metadata.get("uid") != action.uid or bool(metadata.get("deletionTimestamp"))
            assert action.body is not None
            return answer is not None and not differences(action.body, self._complete(action, answer))

        result = read_back(
            self._client, self._stopping, action.kind, action.name, landed=landed, status=status, why=why
        )
        return result if result.obj is None else replace(result, obj=self._complete(action, result.obj))

    @staticmethod
    def _complete(action: Action, answer: Mapping[str, Any]) -> dict[str, Any]:
        return {**slim(answer), "kind": action.kind}
