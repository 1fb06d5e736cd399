"""Rollouts and losses as the real Deployment controller tells them; the test says for the kubelet what is ready."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sandbox import OperatorProcess, Sandbox, settled, wait
from specs import component, spec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def _say_ready(sandbox: Sandbox, *, ready: bool) -> None:
    """Tell the API server of all pods that they are ready, or not."""
    pods = f"/api/v1/namespaces/{sandbox.namespace}/pods"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now}
    for pod in sandbox.admin.request("GET", pods)["items"]:
        path = f"{pods}/{pod['metadata']['name']}/status"
        body = {"status": {"phase": "Running", "conditions": [condition]}}
        sandbox.admin.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def _row(operator: OperatorProcess) -> dict[str, Any]:
    row: dict[str, Any] = operator.get("/v1/status/env-1")["componentStatuses"][0]
    return row


def _deployment(sandbox: Sandbox) -> tuple[str, int]:
    """Uid and generation of the Deployment, of none that is missing."""
    metadata = (sandbox.get("Deployment", "deploy-users") or {"metadata": {}})["metadata"]
    return metadata.get("uid", ""), metadata.get("generation", 0)


def _rolled_out(sandbox: Sandbox, operator: OperatorProcess, before: tuple[str, int]) -> set[str]:
    """Have a new state of the Deployment come up; gives the phases of the graph on the way."""
    phases: set[str] = set()

    def running() -> bool:
        phases.add(str(operator.phase("env-1")))
        if "Deploying" in phases:
            _say_ready(sandbox, ready=True)
        uid, generation = now = _deployment(sandbox)
        ran = bool(uid) and now != before and _row(operator).get("availableGeneration") == generation
        return ran and phases >= {"Deploying", "Running"}

    wait("all replicas of the new state", running)
    return phases


def test_r17_a_rollout_is_deploying_and_a_loss_is_degraded(sandbox: Sandbox) -> None:
    """Pods restarted by hand, and those of a Deployment made again, are awaited; pods that fail are lost."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(component()))
        settled(operator, phase="Deploying")
        assert "Degraded" not in _rolled_out(sandbox, operator, ("", 0))
        before = _deployment(sandbox)
        sandbox.delete("Deployment", "deploy-users")
        assert "Degraded" not in _rolled_out(sandbox, operator, before)
        before = _deployment(sandbox)
        restarted = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}
        sandbox.patch("Deployment", "deploy-users", {"spec": {"template": restarted}})
        assert "Degraded" not in _rolled_out(sandbox, operator, before)
        _say_ready(sandbox, ready=False)
        settled(operator, phase="Degraded")
        assert "0 of 1 replicas are available, after all were available" in _row(operator)["message"]
        _say_ready(sandbox, ready=True)
        settled(operator)
