"""Which port of which pod a Service leads to, by the API server's own endpoints controller."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sandbox import Sandbox, settled, wait
from specs import component, spec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def _pods(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    items = sandbox.admin.request("GET", f"/api/v1/namespaces/{sandbox.namespace}/pods")["items"]
    return {item["metadata"]["name"]: item for item in items}


@contextmanager
def _node(sandbox: Sandbox) -> Iterator[str]:
    """A Node that nobody runs: endpoints are only those of pods that are bound to one."""
    name = f"{sandbox.namespace}-node"
    sandbox.admin.request("POST", "/api/v1/nodes", body={"metadata": {"name": name}})
    try:
        yield name
    finally:
        for pod in _pods(sandbox):  # no kubelet would end them
            path = f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod}"
            sandbox.admin.request("DELETE", path, query={"gracePeriodSeconds": "0"})
        sandbox.admin.request("DELETE", f"/api/v1/nodes/{name}")


def _run(sandbox: Sandbox, pod: str, node: str, address: str, *, ready: bool) -> None:
    """What scheduler and kubelet write of a pod that runs."""
    path = f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod}"
    binding = {"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}
    sandbox.admin.request("POST", f"{path}/binding", body=binding)
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }
    content_type = "application/merge-patch+json"
    sandbox.admin.request("PATCH", f"{path}/status", body={"status": status}, content_type=content_type)


def _reached(sandbox: Sandbox) -> dict[str, tuple[int, bool]]:
    """The port and readiness of each address behind the Service."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{sandbox.namespace}/endpointslices"
    return {
        address: (part["ports"][0]["port"], endpoint["conditions"]["ready"])
        for part in sandbox.admin.request("GET", path)["items"]
        for endpoint in part.get("endpoints") or ()
        for address in endpoint["addresses"]
        if part.get("ports")
    }


def test_a_change_of_port_leads_to_each_pod_at_the_port_it_has(sandbox: Sandbox) -> None:
    """While the pods of the new port come up, the Service reaches those that run at the port they listen on."""
    with sandbox.operator() as operator, _node(sandbox) as node:
        sandbox.apply(spec(component()))
        old = next(iter(wait("a pod", lambda: _pods(sandbox))))
        _run(sandbox, old, node, "10.9.0.1", ready=True)
        settled(operator)
        wait("it to be reached", lambda: _reached(sandbox) == {"10.9.0.1": (8080, True)})
        sandbox.apply(spec(component(port=8081), build="build-2"))
        new = wait("a pod of the new port", lambda: sorted(_pods(sandbox).keys() - {old}))[0]
        _run(sandbox, new, node, "10.9.0.2", ready=False)
        wait("both to be behind the Service", lambda: _reached(sandbox).keys() == {"10.9.0.1", "10.9.0.2"})
        service = sandbox.get("Service", "svc-users") or {}
        assert [port["port"] for port in service["spec"]["ports"]] == [8081]
        assert _reached(sandbox) == {"10.9.0.1": (8080, True), "10.9.0.2": (8081, False)}
