"""The shipped manifests, rendered by kustomize and judged by a real API server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8s_e2e.base.errors import ExpectationError, UsageError
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.platform import manifests, namespace
from k8s_e2e.platform.kube import Kube

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
PROFILE = load_profile(ROOT / "k8s-e2e.toml")
OURS = {"registry", "builder", "envmanager", "operator", "gateway", "console"}
SWAPPED = {
    "otel/opentelemetry-collector": "localhost/otel-collector:0.159.0",
    "jaegertracing/jaeger": "localhost/jaeger:2.13.0",
}


@pytest.fixture(scope="module")
def kube(control_plane: Cluster) -> Iterator[Kube]:
    """A connection."""
    with Kube.connect(control_plane.kubeconfig, control_plane.context) as connected:
        yield connected


@pytest.fixture(scope="module")
def objects(control_plane: Cluster) -> list[manifests.Object]:
    """The rendered overlay."""
    return manifests.render(PROFILE, control_plane.kubectl, images=SWAPPED)


@pytest.fixture(scope="module")
def deployments(objects) -> dict[str, manifests.Object]:
    """Its Deployments by name."""
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "Deployment"}


def container(deployment):
    """The one container of a Deployment."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return only


def environment(deployment):
    """Its literal environment variables."""
    return {entry["name"]: entry.get("value") for entry in container(deployment)["env"]}


def test_the_server_accepts_every_object_and_the_pods_too(kube, objects, control_plane):
    """Applied for real, then again as a dry run; each pod template passes the restricted Pod Security Standard."""
    moved = manifests.render(PROFILE, control_plane.kubectl, images=SWAPPED, namespace="test-manifests")
    namespace.claim(kube, "test-manifests", "run", print)
    manifests.apply_all(kube, moved, "test-manifests", progress=print)
    manifests.apply_all(kube, moved, "test-manifests", progress=print, dry_run=True)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test-restricted", "labels": labels}})
    accounts = [obj for obj in moved if obj["kind"] == "ServiceAccount"]
    for account in accounts:
        kube.apply({**account, "metadata": {**account["metadata"], "namespace": "test-restricted"}})
    for deployment in (obj for obj in moved if obj["kind"] == "Deployment"):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": deployment["metadata"]["name"], "namespace": "test-restricted"},
            "spec": {"serviceAccountName": "turbo-operator", **deployment["spec"]["template"]["spec"]},
        }
        assert kube.apply(pod, dry_run=True)["spec"]["containers"]


def test_a_namespace_in_the_overlay_keeps_our_label(kube, control_plane):
    """Applying the overlay's Namespace does not take away what marks it as ours."""
    moved = manifests.render(PROFILE, control_plane.kubectl, images=SWAPPED, namespace="test-label")
    namespace.claim(kube, "test-label", "run", print)
    manifests.apply_all(kube, moved, "test-label", progress=print)
    live = kube.get("v1", "Namespace", "test-label")["metadata"]["labels"]
    assert live["app.kubernetes.io/managed-by"] == "k8s-e2e"
    assert live["pod-security.kubernetes.io/enforce"] == "baseline"


def test_the_overlay_is_the_one_of_the_profile(objects, deployments):
    """Everything is in the profile's namespace, and every service that the profile names has its port."""
    assert set(deployments) == OURS | {"otel-collector", "jaeger"}
    namespaced = [obj for obj in objects if obj["kind"] not in ("Namespace", "CustomResourceDefinition")]
    assert {obj["metadata"]["namespace"] for obj in namespaced} == {PROFILE.namespace}
    ports = {obj["metadata"]["name"]: obj["spec"]["ports"] for obj in objects if obj["kind"] == "Service"}
    for service in PROFILE.services:
        assert service.port in [entry["port"] for entry in ports[service.name]]
    crds = [obj["spec"]["names"]["plural"] for obj in objects if obj["kind"] == "CustomResourceDefinition"]
    assert crds == [resource.plural for resource in PROFILE.custom_resources]
    roles = [subject for obj in objects if obj["kind"] == "RoleBinding" for subject in obj["subjects"]]
    assert [(role["name"], role["namespace"]) for role in roles] == [("turbo-operator", PROFILE.namespace)]


def test_a_service_selects_its_own_deployment_only(objects, deployments):
    """A component that is called like a service of the platform is not selected: part-of is asked, too."""
    for service in (obj for obj in objects if obj["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        assert selector >= {("app.kubernetes.io/part-of", "turbo-engine")}
        labels = {name: each["spec"]["template"]["metadata"]["labels"].items() for name, each in deployments.items()}
        assert [name for name, each in labels.items() if selector <= each] == [service["metadata"]["name"]]


def test_what_the_ci_overlay_changes(deployments):
    """Tags, pull policy, operator mode, poll interval, log level, gateway's source and reduced resources."""
    for name in OURS:
        ours = container(deployments[name])
        assert (ours["image"], ours["imagePullPolicy"]) == (f"turbo-engine/{name}:e2e", "Never")
        assert environment(deployments[name])["LOG_LEVEL"] == "debug"
    for each in deployments.values():
        assert container(each)["resources"] == {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "200m", "memory": "256Mi"},
        }
    operator = environment(deployments["operator"])
    assert (operator["OPERATOR_MODE"], operator["POLL_INTERVAL"]) == ("k8s", "5s")
    assert environment(deployments["gateway"])["CONFIG_URL"] == "http://operator:8084/v1/gateway-config"


def test_third_party_images_are_swapped_by_name(objects, deployments):
    """They keep the default pull policy: a provider may load or pull them."""
    for name, image in (
        ("otel-collector", SWAPPED["otel/opentelemetry-collector"]),
        ("jaeger", "localhost/jaeger:2.13.0"),
    ):
        assert container(deployments[name])["image"] == image
        assert "imagePullPolicy" not in container(deployments[name])
    assert manifests.images_of(objects) == sorted([*SWAPPED.values(), *(f"turbo-engine/{name}:e2e" for name in OURS)])


def test_state_has_one_writer_and_a_place(deployments):
    """Who keeps state, and the operator, are recreated; state is on an emptyDir of its own."""
    for name in ("registry", "builder", "envmanager", "operator"):
        assert deployments[name]["spec"]["strategy"] == {"type": "Recreate"}
    for name in ("registry", "builder", "envmanager"):
        pod = deployments[name]["spec"]["template"]["spec"]
        assert environment(deployments[name])["DATA_DIR"] == "/data"
        assert pod["securityContext"]["fsGroup"] == 65532
        assert "emptyDir" in next(volume for volume in pod["volumes"] if volume["name"] == "data")


def test_only_the_operator_has_a_token(deployments):
    """No other pod can talk to the API server; none gets variables of other services."""
    specs = {name: each["spec"]["template"]["spec"] for name, each in deployments.items()}
    assert [name for name, spec in specs.items() if spec["automountServiceAccountToken"]] == ["operator"]
    assert specs["operator"]["serviceAccountName"] == "turbo-operator"
    assert {spec["enableServiceLinks"] for spec in specs.values()} == {False}


def test_an_object_that_the_server_refuses_is_named(kube):
    """Kind, name and the server's words; an expectation about the platform is unmet, so exit code 1."""
    bad = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 99999}]}}
    namespace.claim(kube, "test-refused", "run", print)
    with pytest.raises(ExpectationError, match=r"the cluster refuses Service/bad: .*65535") as raised:
        manifests.apply_all(kube, [bad], "test-refused", progress=print)
    assert raised.value.exit_code == 1


def test_an_overlay_that_kustomize_refuses_is_one_clear_error(control_plane, tmp_path):
    """A file that is not there is named, without a traceback; exit code 2."""
    shutil.copytree(ROOT / "infra" / "k8s", tmp_path / "k8s")
    (tmp_path / "k8s" / "base" / "jaeger.yaml").unlink()
    profile = Profile(root=tmp_path, name="x", overlay="k8s/overlays/ci", namespace="x")
    with pytest.raises(UsageError, match=r"kustomize refuses .*jaeger\.yaml"):
        manifests.render(profile, control_plane.kubectl, images={})
