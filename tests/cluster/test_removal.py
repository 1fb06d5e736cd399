"""Adopting a namespace and taking a run out again, judged by a real API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import CustomResource, Profile
from k8s_e2e.platform import adoption, crds, manifests, namespace, removal
from k8s_e2e.platform.kube import Kube
from k8s_e2e.platform.ownership import marked

pytestmark = pytest.mark.cluster

SCHEMA = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "crates.removal.example.com"},
    "spec": {
        "group": "removal.example.com",
        "scope": "Namespaced",
        "names": {"kind": "Crate", "plural": "crates"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": SCHEMA}],
    },
}
CLUSTER_ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "removal-reader"},
    "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
}


@pytest.fixture(scope="module")
def kube(control_plane: Cluster) -> Iterator[Kube]:
    """A connection."""
    with Kube.connect(control_plane.kubeconfig, control_plane.context) as connected:
        yield connected


def profile(space: str) -> Profile:
    """A profile whose operator knows crates."""
    crate = CustomResource(group="removal.example.com", version="v1", kind="Crate", plural="crates")
    return Profile(root=Path("/"), name="x", overlay="x", namespace=space, custom_resources=(crate,))


def config_map(name: str) -> manifests.Object:
    """A ConfigMap without a namespace."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def crate(name: str, *finalizers: str) -> manifests.Object:
    """A custom resource."""
    metadata = {"name": name, "finalizers": list(finalizers)}
    return {"apiVersion": "removal.example.com/v1", "kind": "Crate", "metadata": metadata}


def test_an_adopted_namespace_is_given_back_and_the_crd_goes(kube):
    """Custom resources, what hangs on them and what bears the run go; a foreign object and the namespace stay."""
    space = "removal-adopted"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    theirs = kube.apply(config_map("theirs"), namespace=space, field_manager="them")
    objects = [CRD, CLUSTER_ROLE, config_map("ours")]
    adoption.adopt(kube, space, "run-1", objects, (), print)
    assert namespace.belongs_to(kube, space, "run-1")
    manifests.apply_all(kube, marked(objects, "run-1"), space, progress=print)
    kube.apply(crate("full"), namespace=space, field_manager="operator")
    owner = kube.get("v1", "ConfigMap", "ours", space)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ours", "uid": owner["metadata"]["uid"]}
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [reference]
    kube.apply(child, namespace=space, field_manager="operator")
    told: list[str] = []
    assert removal.remove(kube, profile(space), "another-run", told.append) == []
    assert kube.get("v1", "ConfigMap", "ours", space)
    assert removal.remove(kube, profile(space), "run-1", told.append) == []
    left = {item["metadata"]["name"]: item["metadata"]["uid"] for item in kube.list("v1", "ConfigMap", space)["items"]}
    assert left.pop("kube-root-ca.crt")
    assert left == {"theirs": theirs["metadata"]["uid"]}
    assert kube.get(crds.API_VERSION, crds.KIND, "crates.removal.example.com") is None
    assert kube.get(CLUSTER_ROLE["apiVersion"], "ClusterRole", "removal-reader") is None
    assert "deletionTimestamp" not in kube.get("v1", "Namespace", space)["metadata"]


def test_what_does_not_go_is_listed_and_the_crd_waits_for_other_namespaces(kube, monkeypatch):
    """A finalizer holds a custom resource, which is named with it; a CRD that others use stays, and why is told."""
    monkeypatch.setattr(removal, "CUSTOM_TIMEOUT_S", 1.0)
    monkeypatch.setattr(namespace, "GONE_TIMEOUT_S", 1.0)
    namespace.claim(kube, "removal-own", "run-2", print)
    namespace.claim(kube, "removal-other", "run-3", print)
    manifests.apply_all(kube, marked([CRD], "run-2"), "removal-own", progress=print)
    kube.apply(crate("held", "removal.example.com/till"), namespace="removal-own")
    kube.apply(crate("elsewhere"), namespace="removal-other")
    told: list[str] = []
    left = removal.remove(kube, profile("removal-own"), "run-2", told.append)
    assert any(line.startswith("Crate/held (held by removal.example.com/till): still there after 1 s") for line in left)
    assert any("CRD crates.removal.example.com stays: Crates are left in removal-other" in line for line in told)
    monkeypatch.undo()
    kube.apply(crate("held"), namespace="removal-own")
    kube.delete("removal.example.com/v1", "Crate", "elsewhere", "removal-other")
    assert removal.remove(kube, profile("removal-own"), "run-2", print) == []
    assert kube.get("v1", "Namespace", "removal-own") is None
    assert kube.get(crds.API_VERSION, crds.KIND, "crates.removal.example.com") is None


def test_a_crd_of_somebody_else_is_used_as_it_is(kube):
    """It is not among what will be applied; a schema that differs is told, a version that is absent is refused."""
    name = "jars.removal.example.com"
    theirs = {**CRD, "metadata": {"name": name}, "spec": {**CRD["spec"], "names": {"kind": "Jar", "plural": "jars"}}}
    kube.apply(theirs, field_manager="them")
    settled = crds.settle(kube, [theirs, config_map("x")])
    assert settled == ([config_map("x")], [f"CRD {name} is there and is used as it is"])
    version = {**theirs["spec"]["versions"][0], "schema": {"openAPIV3Schema": {"type": "object"}}}
    settled = crds.settle(kube, [{**theirs, "spec": {**theirs["spec"], "versions": [version]}}])
    assert settled.remarks == [f"CRD {name} is there and is used as it is; its schema differs from the overlay's: v1"]
    newer = {**theirs, "spec": {**theirs["spec"], "versions": [{**version, "name": "v2"}]}}
    with pytest.raises(EnvironmentFailure, match=r"serves Jar in v1, not v2"):
        crds.settle(kube, [newer])
    kube.delete(crds.API_VERSION, crds.KIND, name)
    assert crds.settle(kube, [theirs]).objects == [theirs]


def test_what_is_in_the_way_is_refused(kube):
    """Another run's mark, an object that would be applied, one outside of the namespace: each is named."""
    space = "removal-occupied"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    kube.apply(config_map("taken"), namespace=space, field_manager="them")
    with pytest.raises(EnvironmentFailure, match="not ours and not empty: ConfigMap/taken"):
        adoption.adopt(kube, space, "run-4", [config_map("taken")], (), print)
    adoption.adopt(kube, space, "run-4", [], (), print)
    with pytest.raises(EnvironmentFailure, match="another run has just begun in namespace removal-occupied: run-4"):
        adoption.adopt(kube, space, "run-5", [], (), print)
    kube.apply(CLUSTER_ROLE, field_manager="them")
    with pytest.raises(EnvironmentFailure, match="that are not ours: ClusterRole/removal-reader"):
        adoption.refuse_occupied(kube, space, [CLUSTER_ROLE])
    kube.delete(CLUSTER_ROLE["apiVersion"], "ClusterRole", "removal-reader")
    adoption.refuse_occupied(kube, space, [CLUSTER_ROLE])
