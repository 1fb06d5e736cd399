"""Adopting a namespace and taking a run out again, judged by a real API server."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.model.profile import CustomResource, Profile
from k8s_e2e.platform import adoption, crds, manifests, namespace, removal
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.ownership import marked, run_of
from k8s_e2e.scenarios import object_steps
from k8s_e2e.scenarios.model import ApplyStep

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


def crd_of(kind: str, scope: str = "Namespaced") -> manifests.Object:
    """A CRD that is not in the profile."""
    names = {"kind": kind, "plural": f"{kind.lower()}s"}
    spec = {**CRD["spec"], "scope": scope, "names": names}
    return {**CRD, "metadata": {"name": f"{names['plural']}.removal.example.com"}, "spec": spec}


def custom(kind: str, name: str) -> manifests.Object:
    """A custom resource of some kind."""
    return {"apiVersion": "removal.example.com/v1", "kind": kind, "metadata": {"name": name}}


def test_cluster_scoped_custom_resources_of_others_stay(kube):
    """Of a kind that is not in namespaces only what bears the run goes, though the profile names the kind."""
    space = "removal-vats"
    vats = CustomResource(group="removal.example.com", version="v1", kind="Vat", plural="vats")
    manifests.apply_all(kube, [crd_of("Vat", "Cluster")], space, progress=print)
    kube.apply(custom("Vat", "theirs"), field_manager="them")
    kube.apply(*marked([custom("Vat", "earlier")], "run-0"))
    namespace.claim(kube, space, "run-6", print)
    kube.apply(*marked([custom("Vat", "ours")], "run-6"))
    assert removal.remove(kube, profile(space).model_copy(update={"custom_resources": (vats,)}), "run-6", print) == []
    left = [item["metadata"]["name"] for item in kube.list("removal.example.com/v1", "Vat")["items"]]
    assert left == ["earlier", "theirs"]
    kube.delete(crds.API_VERSION, crds.KIND, "vats.removal.example.com")


def test_no_crd_goes_while_it_has_objects(kube):
    """One that the profile does not name, or names with a version that is not served, stays for others' objects."""
    space, other = "removal-tins", "removal-tins-other"
    tins = CustomResource(group="removal.example.com", version="v9", kind="Tin", plural="tins")
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    for named in ((), (tins,)):
        namespace.claim(kube, space, "run-7", print)
        manifests.apply_all(kube, marked([crd_of("Tin")], "run-7"), space, progress=print)
        kube.apply(custom("Tin", "theirs"), namespace=other, field_manager="them")
        told: list[str] = []
        wanted = profile(space).model_copy(update={"custom_resources": named})
        assert removal.remove(kube, wanted, "run-7", told.append) == []
        assert f"CRD tins.removal.example.com stays: Tins are left in {other}" in told
        assert kube.get("removal.example.com/v1", "Tin", "theirs", other)
    kube.delete("removal.example.com/v1", "Tin", "theirs", other)
    assert removal.remove(kube, profile(space), "run-7", print) == []
    assert kube.get(crds.API_VERSION, crds.KIND, "tins.removal.example.com") is None


@pytest.mark.parametrize("made", [True, False])
def test_what_says_whose_run_it_is_stays_while_something_of_it_does(kube, monkeypatch, made):
    """A cluster-wide object that is held keeps namespace or mark, so that the next removal still knows the run."""
    monkeypatch.setattr(removal, "OBJECTS_TIMEOUT_S", 1.0)
    space = f"removal-sign-{made}".lower()
    if made:
        namespace.claim(kube, space, "run-8", print)
    else:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        adoption.adopt(kube, space, "run-8", [], (), print)
    held = {**CLUSTER_ROLE, "metadata": {"name": "removal-held", "finalizers": ["removal.example.com/till"]}}
    kube.apply(*marked([held], "run-8"))
    (left,) = removal.remove(kube, profile(space), "run-8", print)
    assert left == "ClusterRole/removal-held (held by removal.example.com/till): still there after 1 s"
    assert namespace.run_in(kube, space) == "run-8"
    kube.apply(*marked([{**held, "metadata": {"name": "removal-held"}}], "run-8"))
    assert removal.remove(kube, profile(space), "run-8", print) == []
    assert namespace.run_in(kube, space) == ""
    assert (kube.get("v1", "Namespace", space) is None) == made


@pytest.mark.parametrize("status", [0, 429, 503])
def test_a_removal_outlives_a_server_that_is_away_for_a_moment(kube, monkeypatch, status):
    """An unanswered list while it waits is told and asked again: all of the run still goes."""
    space = f"removal-away-{status}"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    adoption.adopt(kube, space, "run-9", [], (), print)
    manifests.apply_all(kube, marked([config_map("ours")], "run-9"), space, progress=print)
    delete, listed, faults = Kube.delete, Kube.list, []

    def deleted(self, *args, **options):
        if not faults:
            faults.append(ApiError(status, "Away", "back soon"))
        return delete(self, *args, **options)

    def failing(self, *args, **options):
        if faults and len(faults) < 2:
            faults.append(faults[0])
            raise faults[0]
        return listed(self, *args, **options)

    monkeypatch.setattr(Kube, "delete", deleted)
    monkeypatch.setattr(Kube, "list", failing)
    told: list[str] = []
    assert removal.remove(kube, profile(space), "run-9", told.append) == []
    assert any("back soon" in line for line in told)
    assert namespace.run_in(kube, space) == ""


def applied(kube: Kube, space: str, obj: manifests.Object, *, shared: bool = True) -> object_steps.Outcome:
    """Run a scenario's apply step."""
    context = SimpleNamespace(
        kube=kube,
        namespace=space,
        run_id="run-10",
        profile=profile(space),
        cluster=SimpleNamespace(shared=shared),
        cleaner=Cleaner(),
    )
    world = SimpleNamespace(context=context, shown=lambda value: value)
    return object_steps.run_apply(ApplyStep.model_validate({"name": "a", "apply": obj}), world)  # type: ignore[arg-type]


def test_a_step_changes_nothing_of_somebody_else(kube):
    """In somebody else's cluster what is there and not the run's is refused and stays; its own is applied again."""
    space = "removal-steps"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    theirs = kube.apply({**config_map("theirs"), "data": {"key": "value"}}, namespace=space, field_manager="them")
    role = {**CLUSTER_ROLE, "metadata": {"name": "removal-theirs"}}
    kube.apply(role, field_manager="them")
    taken = applied(kube, space, {**config_map("theirs"), "data": {"key": "ours"}})
    assert not taken.passed
    assert taken.message == (
        "ConfigMap theirs was not applied: it is there already and not of this run: nothing was changed"
    )
    assert (
        kube.get("v1", "ConfigMap", "theirs", space)["metadata"]["resourceVersion"]
        == (theirs["metadata"]["resourceVersion"])
    )
    assert not applied(kube, space, role).passed
    assert run_of(kube.get(role["apiVersion"], "ClusterRole", "removal-theirs")) == ""
    for _ in range(2):
        assert applied(kube, space, config_map("ours")).passed
    owner = kube.get("v1", "ConfigMap", "ours", space)["metadata"]
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "ours", "uid": owner["uid"]}
    ]
    kube.apply(child, namespace=space, field_manager="operator")
    assert applied(kube, space, config_map("child")).passed
    assert applied(kube, space, config_map("theirs"), shared=False).passed
    kube.delete(role["apiVersion"], "ClusterRole", "removal-theirs")


def test_a_step_makes_nothing_that_would_stay(kube):
    """An object in another namespace, and another Namespace, are refused in somebody else's cluster."""
    there = {**config_map("strayed"), "metadata": {"name": "strayed", "namespace": "kube-system"}}
    outcome = applied(kube, "removal-steps", there)
    assert not outcome.passed
    assert "it is for namespace kube-system" in outcome.message
    assert kube.get("v1", "ConfigMap", "strayed", "kube-system") is None
    second = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "removal-second"}}
    assert "makes no further namespace" in applied(kube, "removal-steps", second).message
    assert kube.get("v1", "Namespace", "removal-second") is None
