"""The `Applier` protocol: how an action becomes a write; and the applier of dev mode, which writes to memory."""

import itertools
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from turbo_operator.core.canonical import canonical_json
from turbo_operator.core.desired import Object, ObjectKey, key_of
from turbo_operator.core.fields import OWNED_FIELDS, applied_fields
from turbo_operator.core.plan import Action

_FIRST_RETRY_S = 0.8
_CONFLICT_RETRY_S = 0.2
_LONGEST_RETRY_S = 60.0
_LONGEST_UNANSWERED_RETRY_S = 15.0
"""Where no answer came nobody is spared by a longer wait, and the end of an outage is noticed sooner."""
_LONGEST_REFUSED_RETRY_S = 300.0

Outcome = Literal["ok", "conflict", "failed", "unknown"]
"""How a write ended. `conflict`: the object is not as it was when the write was planned. `unknown`: it may have
landed or not, and could not be read back."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished write.

    Attributes:
        outcome: How it ended.
        http_status: Of the API server's answer, 0 without one.
        obj: The slim object as the API server now has it; None if it is gone or unknown.
        message: What went wrong.
        retry_after_s: How long the API server asks to wait before the next try.
        refused: The API server read the request and said no: the same request will fail again.
        sent: Whether the request may have reached the API server.
    """

    outcome: Outcome
    http_status: int = 0
    obj: Object | None = None
    message: str = ""
    retry_after_s: float | None = None
    refused: bool = False
    sent: bool = True

    def retry_in_s(self, tries: int) -> float:
        """How long the same write is left alone after it has ended like this `tries` times in a row."""
        first = _CONFLICT_RETRY_S if self.outcome == "conflict" else _FIRST_RETRY_S
        longest = _LONGEST_RETRY_S if self.http_status else _LONGEST_UNANSWERED_RETRY_S
        longest = _LONGEST_REFUSED_RETRY_S if self.refused else longest
        delay_s: float = min(first * 2 ** min(tries - 1, 12), longest)
        return max(delay_s, min(self.retry_after_s or 0.0, _LONGEST_REFUSED_RETRY_S))


class Applier(Protocol):
    """Turns one action into one write."""

    simulated: bool
    """Whether nothing real stands behind the objects."""

    def write(self, action: Action) -> Result:
        """Carry out a Create, Update or Delete; never raises for what the API server or the network does."""
        ...

    def read(self, action: Action) -> Result:
        """What became of an action whose outcome is unknown: ok if it landed, failed if not, unknown if unread."""
        ...


class NoopApplier:
    """Dev mode: objects live in memory, and a Deployment is available as soon as it is written (said in its status).

    It behaves like server-side apply by a sole writer: uid and resourceVersion preconditions hold, a write that
    changes nothing changes no version, and the generation of a spec counts up. What is written for an owner that is
    gone is not kept: no later garbage collection would find it.
    """

    simulated = True

    def __init__(self, is_there: Callable[[Mapping[str, Any]], bool] = lambda _: True) -> None:
        self.objects: dict[ObjectKey, Object] = {}
        self._is_there = is_there
        """Whether the object that an ownerReference names still exists."""
        self._lock = threading.Lock()
        self._versions = itertools.count(1)

    def write(self, action: Action) -> Result:
        """Write to memory."""
        with self._lock:
            return self._write(action)

    def _write(self, action: Action) -> Result:
        present = self.objects.get(action.key)
        if action.verb == "Create" and present is not None:
            return Result("conflict", 409, message="exists")
        if action.verb != "Create" and (present is None or present["metadata"]["uid"] != action.uid):
            return Result("conflict", 404 if present is None else 409, message="is not the object planned for")
        if action.verb == "Delete":
            del self.objects[action.key]
            return Result("ok", 200)
        assert action.body is not None
        if not all(map(self._is_there, action.body["metadata"]["ownerReferences"])):
            return Result("conflict", 404, message="its owner is gone")
        stored = self._stored(action.body, present)
        self.objects[key_of(stored)] = stored
        return Result("ok", 201 if present is None else 200, stored)

    def read(self, action: Action) -> Result:
        """Nothing is ever unknown in memory."""
        present = self.objects.get(action.key)
        return Result("failed" if present is None else "ok", obj=present)

    def collect(self, owner_uid: str) -> list[Object]:
        """Take out and give back all objects whose owner is gone."""
        with self._lock:
            orphans = [
                obj
                for obj in self.objects.values()
                if any(reference["uid"] == owner_uid for reference in obj["metadata"]["ownerReferences"])
            ]
            for obj in orphans:
                del self.objects[key_of(obj)]
        return orphans

    def _stored(self, body: Object, present: Mapping[str, Any] | None) -> Object:
        owned = canonical_json(applied_fields(body)).decode()
        metadata = {**body["metadata"], OWNED_FIELDS: owned}
        stored = {**body, "metadata": metadata}
        if present is not None:
            before = present["metadata"]
            metadata |= {key: before[key] for key in ("uid", "creationTimestamp", "resourceVersion", "generation")}
            if "status" in present:
                stored["status"] = present["status"]
            if stored == present:
                return stored
        else:
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": "1970-01-01T00:00:00Z", "generation": 0}
        metadata["resourceVersion"] = str(next(self._versions))
        if present is None or present.get("spec") != body.get("spec"):
            metadata["generation"] += 1
        if body["kind"] == "Deployment":
            replicas = body["spec"]["replicas"]
            counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
            stored["status"] = {"observedGeneration": metadata["generation"], **counts}
        return stored
