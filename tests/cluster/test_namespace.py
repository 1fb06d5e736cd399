"""Claiming the namespace of a run."""

from collections.abc import Iterator

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.platform import namespace
from k8s_e2e.platform.kube import Kube

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def kube(control_plane: Cluster) -> Iterator[Kube]:
    """A connection."""
    with Kube.connect(control_plane.kubeconfig, control_plane.context) as connected:
        yield connected


def test_a_namespace_is_made_ready_and_ours(kube):
    """It bears our label and the run, and pods could be made at once."""
    namespace.claim(kube, "claim-new", "run-1", print)
    metadata = kube.get("v1", "Namespace", "claim-new")["metadata"]
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "k8s-e2e"
    assert metadata["annotations"]["k8s-e2e/run"] == "run-1"
    assert kube.get("v1", "ServiceAccount", "default", "claim-new")


def test_our_leftover_is_replaced_with_all_that_was_in_it(kube):
    """What an earlier run left is deleted, the namespace is a new one, and progress says so."""
    told: list[str] = []
    namespace.claim(kube, "claim-left", "run-1", print)
    old = kube.get("v1", "Namespace", "claim-left")["metadata"]["uid"]
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}}, namespace="claim-left")
    namespace.claim(kube, "claim-left", "run-2", told.append)
    assert kube.get("v1", "Namespace", "claim-left")["metadata"]["uid"] != old
    assert kube.get("v1", "ConfigMap", "left", "claim-left") is None
    assert "namespace claim-left is left over from run run-1: deleting it" in told


def test_a_foreign_namespace_is_left_alone(kube):
    """The error names the namespace and the command that mends it; exit code 3; nothing is touched."""
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "claim-foreign"}})
    with pytest.raises(EnvironmentFailure, match="is not ours") as raised:
        namespace.claim(kube, "claim-foreign", "run-1", print)
    assert "kubectl delete namespace claim-foreign" in str(raised.value)
    assert raised.value.exit_code == 3
    assert "deletionTimestamp" not in kube.get("v1", "Namespace", "claim-foreign")["metadata"]


def test_a_namespace_that_does_not_go_away_says_what_holds_it(kube):
    """A finalizer blocks the deletion: the deadline passes with the server's own words for it."""
    namespace.claim(kube, "claim-held", "run-1", print)
    held = {"name": "held", "finalizers": ["test.example/held"]}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held}, namespace="claim-held")
    with pytest.raises(EnvironmentFailure, match=r"claim-held to be gone.*finalizers.*test\.example/held"):
        namespace.claim(kube, "claim-held", "run-2", print, timeout_s=9)
    held["finalizers"] = []
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held}, namespace="claim-held")
    namespace.claim(kube, "claim-held", "run-3", print)
