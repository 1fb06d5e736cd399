"""Roll-outs on a real node: what is waited for, and what is not."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from k8s_e2e.base.errors import WaitTimeout
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster.local.addons import COREDNS_IMAGE
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.rollout import RolloutFailed, wait_rollout

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def kube(cluster: Cluster) -> Iterator[Kube]:
    """A connection."""
    with Kube.connect(cluster.kubeconfig, cluster.context) as connected:
        yield connected


@pytest.fixture
def deploy(kube, namespace, pause_image):
    """Apply a Deployment named app whose container is changed as given."""

    def apply(*, spec: dict[str, Any] | None = None, **changes: Any) -> None:
        container = {"name": "main", "image": pause_image, "imagePullPolicy": "Never", **changes}
        template = {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container]}}
        kube.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "app"},
                "spec": {"selector": {"matchLabels": {"app": "app"}}, "template": template, **(spec or {})},
            },
            namespace=namespace,
        )

    return apply


def failure(kube, namespace, *, within_s):
    """Wait for a roll-out that cannot succeed; return its message, which must come long before the deadline."""
    began = time.monotonic()
    with pytest.raises(RolloutFailed) as raised:
        wait_rollout(kube, namespace, timeout_s=90, progress=print)
    assert time.monotonic() - began < within_s
    assert f"kubectl get pods,events --namespace {namespace}" in str(raised.value)
    return raised.value.message


def _enforced(kube, namespace):
    """Say whether admission knows the quota by now."""
    return "hard" in kube.get("v1", "ResourceQuota", "none", namespace).get("status", {})


def test_an_available_rollout_ends_the_wait(kube, namespace, deploy):
    """All replicas of the newest template, after a first roll-out and after a change; progress says what changes."""
    told: list[str] = []
    deploy(spec={"replicas": 2})
    wait_rollout(kube, namespace, timeout_s=60, progress=told.append)
    assert told[-1] == "app: 2/2 available"
    deploy(spec={"replicas": 2}, env=[{"name": "A", "value": "b"}])
    wait_rollout(kube, namespace, timeout_s=60, progress=print)
    pods = [pod for pod in kube.list("v1", "Pod", namespace)["items"] if "deletionTimestamp" not in pod["metadata"]]
    assert [pod["spec"]["containers"][0].get("env", [{}])[0].get("value") for pod in pods] == ["b", "b"]


def test_an_image_that_is_not_there_and_never_pulled(kube, namespace, deploy):
    """The image and the reason are named, long before the deadline."""
    deploy(image="turbo-engine/operatr:e2e")
    message = failure(kube, namespace, within_s=20)
    assert message.startswith("app: 0/1 available: pod app-")
    assert 'ErrImageNeverPull: Container image "turbo-engine/operatr:e2e" is not present' in message


def test_an_image_name_that_is_none(kube, namespace, deploy):
    """The reason is named."""
    deploy(image="UPPER/case:1", imagePullPolicy="IfNotPresent")
    message = failure(kube, namespace, within_s=20)
    assert "image UPPER/case:1: " in message
    assert "invalid reference format" in message


def test_a_config_map_that_is_missing(kube, namespace, deploy):
    """The ConfigMap is named once it has been missing for some seconds."""
    deploy(envFrom=[{"configMapRef": {"name": "cm-users"}}])
    message = failure(kube, namespace, within_s=25)
    assert 'is CreateContainerConfigError: configmap "cm-users" not found' in message


def test_a_quota_that_allows_no_pod(kube, namespace, deploy):
    """No pod exists to look at: the refusal is told from the Deployment's condition."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    kube.apply(quota, namespace=namespace)
    wait_for("the quota to be in force", lambda: _enforced(kube, namespace) or Pending("no status yet"), timeout_s=30)
    deploy()
    message = failure(kube, namespace, within_s=25)
    assert "no pod can be made" in message
    assert "exceeded quota: none" in message


def test_a_program_that_cannot_be_started(kube, namespace, deploy):
    """A program that is not in the image will not be there after a restart either."""
    deploy(command=["/no-such-program"])
    message = failure(kube, namespace, within_s=20)
    assert "container main ended with exit code 128 (StartError): " in message
    assert "/no-such-program" in message


def test_a_container_that_crashes_again_and_again(kube, namespace, deploy):
    """After the third crash the exit code and the container's last words, as the API server has them, are told."""
    deploy(
        image=COREDNS_IMAGE,
        args=["-conf", "/no-such-file"],
        terminationMessagePolicy="FallbackToLogsOnError",
        readinessProbe={"tcpSocket": {"port": 53}},  # without one a crashing container counts as available for a moment
    )
    message = failure(kube, namespace, within_s=75)
    # The third crash is seen at its end, or in the waiting for the next start if that comes first.
    told = re.search(
        r"pod app-\S+(?::| is CrashLoopBackOff:) container main ended with exit code 1: (\S.*), restarted 2 times$",
        message,
    )
    assert told, message
    # The kubelet takes the words from the log's end, where the very last line may not have arrived yet.
    (pod,) = kube.list("v1", "Pod", namespace)["items"]
    (status,) = pod["status"]["containerStatuses"]
    ended = status["state"].get("terminated") or status["lastState"]["terminated"]
    assert told[1] in ended["message"]


def test_a_progress_deadline_that_passes(kube, namespace, deploy):
    """The controller's own verdict ends the wait, and the pod's state is told."""
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1}
    deploy(spec={"progressDeadlineSeconds": 4}, readinessProbe=probe)
    message = failure(kube, namespace, within_s=30)
    assert "its progress deadline (4 s) is over: pod app-" in message
    assert "is running but not ready" in message


def test_a_deadline_that_passes_says_where_it_hangs(kube, namespace, deploy):
    """A pod that no node can take is not hopeless, but the last state seen is in the message."""
    deploy(resources={"requests": {"cpu": "1000"}})
    with pytest.raises(WaitTimeout) as raised:
        wait_rollout(kube, namespace, timeout_s=4, progress=print)
    assert "is not scheduled: 0/1 nodes are available" in raised.value.last
    assert raised.value.last.startswith("app: 0/1 available: pod app-")


def test_sets_are_waited_for_where_the_platform_has_some(kube, namespace, pause_image):
    """A StatefulSet and a DaemonSet end the wait when they are available; one without its image ends it at once."""

    def apply(kind, image, **spec):
        labels = {"app": kind.lower()}
        container = {"name": "main", "image": image, "imagePullPolicy": "Never"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": labels}, "template": template, **spec}
        meta = {"name": kind.lower()}
        kube.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec}, namespace=namespace)

    kinds = {"StatefulSet", "DaemonSet"}
    apply("StatefulSet", pause_image, serviceName="store")
    apply("DaemonSet", pause_image)
    told: list[str] = []
    wait_rollout(kube, namespace, timeout_s=60, progress=told.append, kinds=kinds)
    assert {"statefulset: 1/1 available", "daemonset: 1/1 available"} <= set(told)
    apply("StatefulSet", "example.test/absent:1", serviceName="store")
    with pytest.raises(RolloutFailed, match=r"statefulset: 0/1 available: pod statefulset-0 is ErrImageNeverPull"):
        wait_rollout(kube, namespace, timeout_s=60, progress=print, kinds=kinds)
