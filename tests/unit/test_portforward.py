"""Which pod a forward goes to, and to which of its ports."""

import pytest

from k8s_e2e.platform.portforward import choose_pod, target_port


def pod(name, *, ready=True, phase="Running", created="2026-01-01T00:00:00Z", going=False):
    """A pod."""
    metadata = {"name": name, "creationTimestamp": created}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


@pytest.mark.parametrize("ready_only", [True, False])
def test_the_newest_ready_pod_is_chosen(ready_only):
    """Older, unready, ended and going pods are passed over."""
    pods = [
        pod("old"),
        pod("new", created="2026-01-01T00:00:02Z"),
        pod("newer-unready", ready=False, created="2026-01-01T00:00:03Z"),
        pod("going", going=True, created="2026-01-01T00:00:04Z"),
        pod("ended", phase="Succeeded", created="2026-01-01T00:00:05Z"),
    ]
    chosen, state = choose_pod(pods, ready_only=ready_only)
    assert chosen["metadata"]["name"] == "new"
    assert state == "pod new is ready"


def test_a_running_pod_will_do_only_when_asked():
    """An unready pod is evidence after a while, never at first."""
    unready = [pod("unready", ready=False)]
    assert choose_pod(unready, ready_only=True) == (None, "no pod is ready; pod unready is Running")
    assert choose_pod(unready, ready_only=False) == (unready[0], "pod unready is running but not ready")


def test_without_a_pod_the_state_says_so():
    """Nothing selected, nothing running, and a pod on its way out are told apart."""
    assert choose_pod([], ready_only=False) == (None, "no pod is selected by the service")
    assert choose_pod([pod("p", phase="Pending", ready=False)], ready_only=False)[1] == (
        "no pod is ready; pod p is Pending"
    )
    assert choose_pod([pod("p", going=True)], ready_only=False)[1] == "no pod is ready; pod p is going away"


def test_target_ports_are_found_by_number_and_by_name():
    """A named targetPort is looked up in the pod; an absent one is the port itself."""
    named = {"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"name": "http", "containerPort": 8081}]}]}}
    ports = [
        {"port": 80, "targetPort": "http"},
        {"port": 81, "targetPort": 9},
        {"port": 82},
        {"port": 83, "targetPort": "x"},
    ]
    service = {"spec": {"ports": ports}}
    assert [target_port(service, named, port) for port in (80, 81, 82, 83)] == [8081, 9, 82, 83]
