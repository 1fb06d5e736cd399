"""Port-forwards and requests to a real pod that goes away and comes back."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k8s_e2e.base import process
from k8s_e2e.cluster.local.addons import COREDNS_IMAGE
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import Profile
from k8s_e2e.platform.http import Requester, Unanswered
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.portforward import ForwardFailed, PortForwards
from k8s_e2e.platform.rollout import wait_rollout

pytestmark = pytest.mark.cluster

NAMESPACE = "test-portforward"
PROFILE = Profile(root=Path("/"), name="p", overlay="o", namespace=NAMESPACE)
COREFILE = ".:5353 {\n health :8080\n}\n"  # the node's only image with an HTTP server in it


@pytest.fixture(scope="module")
def kube(cluster: Cluster) -> Iterator[Kube]:
    """A connection, and a Service with one pod behind it that answers GET /health."""
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "web"}}],
    }
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]
    with Kube.connect(cluster.kubeconfig, cluster.context) as connected:
        for obj in objects:
            connected.apply(obj, namespace=NAMESPACE)
        wait_rollout(connected, NAMESPACE, timeout_s=90, progress=print)
        yield connected
        connected.delete("v1", "Namespace", NAMESPACE)


@pytest.fixture
def forwards(kube: Kube, cluster: Cluster) -> Iterator[PortForwards]:
    """Port-forwards into the namespace."""
    with PortForwards(cluster, NAMESPACE, timeout_s=60) as opened:
        yield opened


def send(forwards, method="GET", *, times=1):
    """Requests to /health, all at once; their statuses."""
    requester = Requester(forwards, PROFILE, None, 30)
    try:
        with ThreadPoolExecutor(50) as pool:
            replies = pool.map(lambda _: requester.send("web", method, "/health", step="t", port=80), range(times))
            return [reply.status for reply in replies]
    finally:
        requester.close()


def pod_name(kube):
    """The name of the pod that is not going away, or None between the deletion of one and the making of the next."""
    pods = kube.list("v1", "Pod", NAMESPACE)["items"]
    return next((pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]), None)


def children():
    """Command lines of the kubectl children that forward into this namespace."""
    listed = process.run(["ps", "-eo", "pid,args"], timeout_s=10).stdout.splitlines()
    return [line for line in listed if f"--namespace={NAMESPACE} port-forward" in line]


def test_fifty_requests_at_once_are_all_answered(forwards):
    """One forward carries them."""
    assert send(forwards, times=200) == [200] * 200
    assert len(children()) == 1


def test_the_url_outlives_the_pod(kube, forwards):
    """A deleted pod is left before a request runs into it; the URL stays; a GET in between is answered."""
    url = forwards.url("web", 80)
    before = pod_name(kube)
    kube.delete("v1", "Pod", before, NAMESPACE)
    deadline = time.monotonic() + 60
    while pod_name(kube) in (before, None):
        assert time.monotonic() < deadline, f"no pod in place of {before} after 60 s"
        time.sleep(0.05)
    assert send(forwards) == [200]
    assert send(forwards, "POST") == [200]
    assert forwards.url("web", 80) == url


def test_a_dead_kubectl_is_replaced(forwards):
    """The process is killed: the next GET is answered at the same URL."""
    url = forwards.url("web", 80)
    (child,) = children()
    os.kill(int(child.split()[0]), signal.SIGKILL)
    assert send(forwards) == [200]
    assert forwards.url("web", 80) == url


def test_what_is_not_there_is_told_at_once(forwards):
    """A service or port that does not exist is no reason to wait."""
    began = time.monotonic()
    with pytest.raises(ForwardFailed, match=f"there is no service nobody in namespace {NAMESPACE}"):
        forwards.url("nobody", 80)
    with pytest.raises(ForwardFailed, match="service web has no port 81"):
        forwards.url("web", 81)
    assert time.monotonic() - began < 5


def test_a_service_without_a_pod_says_so_when_the_deadline_passes(kube, forwards):
    """The last state of the pods is in the error."""
    spec = {"selector": {"app": "nothing"}, "ports": [{"port": 80}]}
    kube.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "empty"}, "spec": spec}, namespace=NAMESPACE
    )
    with pytest.raises(ForwardFailed, match=r"within 0\.5 s: no pod is selected by the service"):
        forwards.url("empty", 80, timeout_s=0.5)


def test_closing_ends_every_child_and_every_wait(kube, cluster):
    """Nothing is left, and who waits for a forward is told."""
    opened = PortForwards(cluster, NAMESPACE)
    assert send(opened) == [200]
    spec = {"selector": {"app": "nothing"}, "ports": [{"port": 80}]}
    kube.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "empty"}, "spec": spec}, namespace=NAMESPACE
    )
    threading.Timer(0.3, opened.close).start()
    with pytest.raises(ForwardFailed):
        opened.url("empty", 80, timeout_s=30)
    opened.close()
    assert children() == []
    with pytest.raises(Unanswered, match="all of them have been closed"):
        send(opened)


def test_children_end_with_a_parent_that_is_killed(kube, cluster):
    """Even SIGKILL leaves no kubectl behind."""
    script = f"""
        import sys, time
        from pathlib import Path
        from k8s_e2e.cluster.provider import Cluster
        from k8s_e2e.platform.portforward import PortForwards
        cluster = Cluster(name="x", provider="local", kubeconfig=Path({str(cluster.kubeconfig)!r}),
                          context={cluster.context!r}, kubectl=Path({str(cluster.kubectl)!r}))
        print(PortForwards(cluster, {NAMESPACE!r}, timeout_s=60).url("web", 80), flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout.readline().startswith("http://127.0.0.1:")
        assert len(children()) == 1
        parent.kill()
    deadline = time.monotonic() + 5
    while children():
        assert time.monotonic() < deadline
        time.sleep(0.05)
