"""Is there any hope: the state of the pods behind what a step waits for.

A state must be seen by several looks in a row: between a change and the controllers taking note of it, the old state
still stands there.
"""

import time
from collections.abc import Mapping
from typing import Any

from k8s_e2e.platform import pod_state, rollout
from k8s_e2e.platform.kube import ApiError, Kube

AGREE_OWN = 2  # looks, for objects that the step itself names
AGREE_ANY = 4  # looks, for anything in the namespace that may be the reason


class Outlook:
    """Looks at the workloads behind one wait."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._reason = ""
        self._times = 0

    def of(self, kind: str, objects: list[Mapping[str, Any]]) -> str:
        """Return why waiting is hopeless, or nothing yet: for objects of ``kind``, or for any Deployment."""
        own = kind in ("Deployment", "Pod")
        try:
            reason = self._pods(objects) if kind == "Pod" else self._deployments(objects if own else None)
        except ApiError:
            return ""  # the wait itself tells of an API server that does not answer
        self._times = self._times + 1 if reason and _same(reason, self._reason) else bool(reason)
        self._reason = reason
        return reason if self._times >= (AGREE_OWN if own else AGREE_ANY) else ""

    def _pods(self, pods: list[Mapping[str, Any]]) -> str:
        if not pods:
            return ""
        events = self._kube.list("v1", "Event", self._namespace)["items"]
        found = (pod_state.hopeless(dict(pod), events, now_s=time.time()) for pod in pods)
        return next((reason for reason in found if reason), "")

    def _deployments(self, only: list[Mapping[str, Any]] | None) -> str:
        deployments = only if only is not None else self._kube.list("apps/v1", "Deployment", self._namespace)["items"]
        unfinished = [each for each in deployments if not _done(each)]
        if not unfinished:
            return ""
        sets = self._kube.list("apps/v1", "ReplicaSet", self._namespace)["items"]
        pods = self._kube.list("v1", "Pod", self._namespace)["items"]
        events = self._kube.list("v1", "Event", self._namespace)["items"]
        for deployment in unfinished:
            status = deployment.get("status") or {}
            if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
                continue
            state = rollout.rollout_state(dict(deployment), sets, pods, events, now_s=time.time())
            if state.hopeless:
                return f"Deployment {state.hopeless}"
        return ""


def _done(deployment: Mapping[str, Any]) -> bool:
    status, wanted = deployment.get("status") or {}, (deployment.get("spec") or {}).get("replicas", 1)
    return bool(status.get("updatedReplicas", 0) == wanted and status.get("availableReplicas", 0) >= wanted)


def _same(reason: str, other: str) -> bool:
    """Whether two reasons speak of the same thing: counters in them go up."""
    return reason.split(":")[:2] == other.split(":")[:2]
