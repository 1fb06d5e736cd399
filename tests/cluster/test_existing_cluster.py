"""Whole runs on a cluster that is not the kit's, by an account that may do exactly what `permissions` prints."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from k8s_e2e.cluster import images
from k8s_e2e.cluster.local import teardown
from k8s_e2e.cluster.local.layout import clusters_dir
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.settings import Settings
from tests.cluster import accounts, registry
from tests.cluster.conftest import Kubectl
from tests.mainjob.runs import KIT, ROOT, Ran

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

THEIRS = "somebodys"  # a namespace that was there before
CRD = "apigraphs.turboengine.io"
PREFIX = f"{registry.ADDRESS}/team/pr-7/"
THIRD_PARTY = {"otel/opentelemetry-collector": "mirror/otelcol:1", "jaegertracing/jaeger": "mirror/jaeger:1"}
FOREIGN = """
apiVersion: v1
kind: ConfigMap
metadata: {name: theirs, labels: {app: theirs}}
data: {key: value}
---
apiVersion: v1
kind: Secret
metadata: {name: theirs}
stringData: {password: correct-horse-battery}
"""


class Site(NamedTuple):
    """A cluster of somebody else: how its keeper reaches it, the digests in its registry, a place for files."""

    kubectl: Kubectl
    digests: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def site(cluster: Cluster, local_settings: Settings, tmp_path_factory) -> Iterator[Site]:
    """The session's cluster with a registry that has the platform's images, and what they need of third parties."""
    folder = tmp_path_factory.mktemp("site")
    pid = teardown.processes(clusters_dir(local_settings.state_dir) / cluster.name)[-1]
    built = images.build_images(load_profile(ROOT / "k8s-e2e.toml"), Settings(), logs=folder / "logs", progress=print)
    third = images.third_party_images(set(THIRD_PARTY), Settings(), print)
    with registry.serving(pid, folder / "registry") as serving:
        digests = {image.reference: serving.push(image, f"team/pr-7/{image.reference}") for image in built}
        for name, tag in THIRD_PARTY.items():
            serving.push(third[name], tag)
        yield Site(Kubectl(cluster), digests, folder)


@pytest.fixture(scope="module")
def theirs(site: Site) -> Iterator[str]:
    """A namespace and a CRD that somebody else has made, with something of theirs in the namespace."""
    site.kubectl("create", "namespace", THEIRS)
    site.kubectl("label", "namespace", THEIRS, "team=shop")
    site.kubectl("apply", "-n", THEIRS, "-f", "-", stdin=FOREIGN)
    site.kubectl("apply", "-f", str(ROOT / "infra/k8s/base/apigraph-crd.yaml"))
    yield THEIRS
    site.kubectl("delete", "namespace", THEIRS, "--wait=false")
    site.kubectl("delete", "crd", CRD, "--ignore-not-found")


@pytest.fixture(scope="module")
def config(site: Site, theirs: str) -> Path:
    """The kubeconfig of an account with exactly the Role that the kit prints."""
    roles = printed_roles(profile(site.folder, theirs), "--scenarios", "petstore")
    return accounts.kubeconfig(site.kubectl, roles, "k8s-e2e", theirs, site.folder / "kubeconfig", "shop-test")


def profile(folder: Path, namespace: str) -> Path:
    """Write a profile of the shipped platform for ``namespace``, third parties' images from the site's registry."""
    root = folder / f"project-{namespace}"
    if not root.exists():
        overlay = root / "overlay"
        overlay.mkdir(parents=True)
        base = Path("/".join([".."] * len(overlay.parts))) / str(ROOT / "infra/k8s/overlays/ci").lstrip("/")
        replaced = [
            {"name": name, "newName": f"{registry.ADDRESS}/{new.partition(':')[0]}", "newTag": new.partition(":")[2]}
            for name, new in THIRD_PARTY.items()
        ]
        wanted = {"resources": [str(base)], "namespace": namespace, "images": replaced}
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
        text = (ROOT / "k8s-e2e.toml").read_text()
        text = text.replace('overlay = "infra/k8s/overlays/ci"', 'overlay = "overlay"')
        text = text.replace('namespace = "turbo-engine-e2e"', f'namespace = "{namespace}"')
        text = text.replace('scenario_dir = "scenarios"', f'scenario_dir = "{ROOT / "scenarios"}"')
        for context in ("operator", "services"):
            text = text.replace(f'context = "{context}"', f'context = "{ROOT / context}"')
        (root / "k8s-e2e.toml").write_text(text)
    return root / "k8s-e2e.toml"


def printed_roles(path: Path, *options: str) -> list[dict[str, Any]]:
    """Return what ``k8s-e2e permissions`` prints."""
    done = subprocess.run(
        [KIT, "permissions", "--profile", path, *options], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return list(yaml.safe_load_all(done.stdout))


def command(site: Site, config: Path, path: Path, run: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run of scenario petstore on the existing cluster; its images come from the registry."""
    argv = ["run", "--provider", "existing", "--profile", path, "--run-dir", run, "--scenarios", "petstore"]
    return started(site, config, *argv, "--image-prefix", PREFIX, *words)


def started(site: Site, config: Path, *words: str | Path) -> subprocess.Popen[str]:
    """Start a command of the kit with a kubeconfig, and a state directory of the site's own."""
    state = {"KUBECONFIG": str(config), "K8S_E2E_STATE_DIR": str(site.folder / "state"), "NO_COLOR": "1"}
    return subprocess.Popen(
        [KIT, *words],
        cwd=ROOT,
        env={**os.environ, **state},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(child: subprocess.Popen[str], run: Path) -> Ran:
    """Wait for a run."""
    try:
        output, _ = child.communicate(timeout=600)
    except BaseException:
        child.terminate()  # not killed: it removes what it made
        child.communicate(timeout=120)
        raise
    return Ran(child.returncode, run, output)


def contents(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    """Return Kind/name -> uid and resourceVersion of all that lasts in a namespace."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kept = [kind for kind in kinds if not kind.startswith("events")]
    items = kubectl.get(",".join(kept), "-n", namespace)["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": f"{item['metadata']['uid']} {item['metadata']['resourceVersion']}"
        for item in items
    }


def lasting(obj: dict[str, Any]) -> dict[str, Any]:
    """Return of an object what must be as it was."""
    metadata = obj["metadata"]
    wanted = {name: metadata.get(name) for name in ("uid", "labels", "annotations", "generation")}
    return {**wanted, "spec": obj.get("spec")}


def test_a_run_by_the_printed_role_leaves_all_as_it_was(site, theirs, config):
    """It passes, pods run the registry's images, the report names its blind spots, and nothing of it is left."""
    before, run = contents(site.kubectl, theirs), site.folder / "whole"
    kept = [lasting(site.kubectl.get("namespace", theirs)), lasting(site.kubectl.get("crd", CRD))]
    ran = ended(command(site, config, profile(site.folder, theirs), run), run)
    assert ran.code == 0, ran.output
    record = ran.json("run.json")
    pulled = {image["reference"]: image["digest"] for image in record["images"]}
    assert {reference: pulled.get(PREFIX + reference) for reference in site.digests} == site.digests
    assert record["cluster"] == "shop-test"
    resources = {(obj["kind"], obj["metadata"]["name"]): obj for obj in ran.json("k8s/resources.json")["items"]}
    deployment = resources["Deployment", "operator"]
    assert deployment["metadata"]["annotations"]["k8s-e2e/run"] == record["run_id"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert not any(kind == "Node" for kind, _ in resources)
    spots = "\n".join(ran.json("findings.json")["blind_spots"])
    assert re.search(r"resources: denied: \d+ kinds may not be listed: namespaces, nodes, secrets, ", spots)
    assert "cluster-logs: skipped: the cluster is not the kit's" in spots
    assert f"CRD {CRD} is there and is used as it is; its schema may not be read\n" in ran.output
    assert contents(site.kubectl, theirs) == before
    assert [lasting(site.kubectl.get("namespace", theirs)), lasting(site.kubectl.get("crd", CRD))] == kept
    assert "correct-horse-battery" not in "".join(
        path.read_text(errors="replace") for path in run.rglob("*") if path.is_file() and path.suffix != ".png"
    )


def test_each_missing_permission_is_listed_before_anything_is_applied(site, theirs):
    """A Role that lacks two verbs, one of them what the overlay's own Role grants: exit code 3, both named."""
    roles = printed_roles(profile(site.folder, theirs), "--scenarios", "petstore")
    for rule in roles[0]["rules"]:
        if rule["resources"] == ["deployments"]:
            rule["verbs"].remove("delete")
        if rule["resources"] == ["apigraphs/status"]:
            rule["verbs"] = ["get"]
    for obj in roles:
        obj["metadata"]["name"] = "poor"
    roles[1]["roleRef"]["name"] = roles[1]["subjects"][0]["name"] = "poor"
    config = accounts.kubeconfig(site.kubectl, roles, "poor", theirs, site.folder / "poor", "shop-poor")
    before, run = contents(site.kubectl, theirs), site.folder / "poor-run"
    ran = ended(command(site, config, profile(site.folder, theirs), run), run)
    assert ran.code == 3, ran.output
    assert f"2 permissions are missing for system:serviceaccount:{theirs}:poor, and nothing was applied:" in ran.output
    assert f"deployments.apps in {theirs}: delete;\n" in ran.output
    assert f"apigraphs/status.turboengine.io in {theirs}: patch\n" in ran.output
    assert f"permissions --account {theirs}/poor` prints the Role" in ran.output
    assert f"permissions --account {theirs}/poor --scenarios petstore" in (run / "REPORT.md").read_text()
    assert contents(site.kubectl, theirs) == before


def test_a_namespace_with_a_deployment_of_somebody_is_refused(site, theirs, config):
    """The Deployment is named, exit code 3, and it is left as it is."""
    site.kubectl("create", "deployment", "shop", "--image=registry.k8s.io/pause:3.9", "--replicas=0", "-n", theirs)
    try:
        site.kubectl("wait", "--for=create", "replicaset", "-l", "app=shop", "-n", theirs, "--timeout=20s")
        before = set(contents(site.kubectl, theirs))
        run = site.folder / "refused"
        where = ["--set", "provider=existing", "--set", "cluster=shop-test", "--set", f"image_prefix={PREFIX}"]
        path = profile(site.folder, theirs)
        ran = ended(started(site, config, "stage", "deploy", "--profile", path, "--run-dir", run, *where), run)
        assert ran.code == 3, ran.output
        assert f"namespace {theirs} is not ours and not empty: Deployment/shop" in ran.output
        assert set(contents(site.kubectl, theirs)) == before
    finally:
        site.kubectl("delete", "deployment", "shop", "-n", theirs)


def test_an_interrupted_run_removes_the_namespace_and_crd_that_it_made_only(site, theirs):
    """SIGTERM while the platform comes up, by an account with the printed ClusterRole: what was there stays."""
    site.kubectl("delete", "crd", CRD)
    before, mine = contents(site.kubectl, theirs), "made-by-the-kit"
    path, run = profile(site.folder, mine), site.folder / "stopped"
    roles = printed_roles(path, "--scenarios", "petstore", "--cluster-role", "--account", f"{theirs}/maker")
    config = accounts.kubeconfig(site.kubectl, roles, "maker", theirs, site.folder / "maker", "shop-maker")
    before |= {name: at for name, at in contents(site.kubectl, theirs).items() if name not in before}
    child = command(site, config, path, run)
    try:
        deadline = time.monotonic() + 120
        while "deployment.apps/operator" not in site.kubectl(
            "get", "deployment", "-n", mine, "-o", "name", check=False
        ):
            assert child.poll() is None, ended(child, run).output
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert site.kubectl.get("crd", CRD)["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "k8s-e2e"
    finally:
        child.send_signal(signal.SIGTERM)
        ran = ended(child, run)
    assert ran.code == 143, ran.output
    assert site.kubectl("get", "namespace", mine, "--ignore-not-found") == ""
    assert site.kubectl("get", "crd", CRD, "--ignore-not-found") == ""
    assert contents(site.kubectl, theirs) == before
    assert json.loads((run / "run.json").read_text())["exit_code"] == 143


def test_a_context_that_looks_like_production_is_refused_unless_named(site, theirs, config):
    """Exit code 2 before anything else; with --cluster it is meant (and refused for another reason here)."""
    text = config.read_text().replace("shop-test", "shop-prod-eu")
    path = site.folder / "production"
    path.write_text(text)
    run = site.folder / "production-run"
    ran = ended(command(site, path, profile(site.folder, theirs), run), run)
    assert ran.code == 2, ran.output
    assert "the current context 'shop-prod-eu' looks like production: 'prod' in its name" in ran.output
    assert not run.exists()
