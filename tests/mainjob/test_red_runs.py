"""One thing broken: the run exits 1 and the first screen of its report names the failing step and what was seen."""

from pathlib import Path

import pytest

from tests.mainjob.runs import ROOT, Ran, patched_profile

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(3600)]


@pytest.fixture
def red_run(kit, kept_cluster, tmp_path, monkeypatch):
    """Return a function that runs the main job on the kept cluster with something broken."""
    monkeypatch.setenv("K8S_E2E_ROLLOUT_TIMEOUT_S", "60")

    def run(*words: str | Path) -> Ran:
        path = tmp_path / "run"
        done = kit("run", "--provider", "local", "--cluster", kept_cluster, "--run-dir", path, *words)
        return Ran(done.returncode, path, done.stdout + done.stderr)

    return run


def test_an_image_that_does_not_exist(red_run, tmp_path):
    """A registry whose image is absent fails the rollout; the report names deployment, image and reason."""
    profile = patched_profile(
        tmp_path,
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: registry}
spec: {template: {spec: {containers: [{name: registry, image: "turbo-engine/registry:absent"}]}}}
""",
    )
    ran = red_run("--profile", profile)
    assert ran.code == 1, ran.output
    assert "deploy" in ran.first_screen
    assert "turbo-engine/registry:absent" in ran.first_screen
    assert "ErrImageNeverPull" in ran.first_screen
    assert ran.json("k8s/resources.json")["items"]


def test_an_operator_without_rbac(red_run, tmp_path):
    """An operator that may do nothing is named with the permission that it lacks."""
    profile = patched_profile(
        tmp_path,
        """
$patch: delete
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: turbo-operator}
""",
    )
    ran = red_run("--profile", profile)
    assert ran.code == 1, ran.output
    assert "operator" in ran.first_screen
    assert "forbidden" in ran.first_screen.lower()


CRASHING = """
name: crashing
description: Version 2 of a package crashes at its start.
use: [turbo-engine.yaml]
steps:
  - publish: {name: shop, version: 1.0.0, kind: rest-service, schema: "{}", image: "turbo-engine/petstore:e2e"}
  - name: create environment
    http:
      service: envmanager
      method: POST
      path: /v1/environments
      json: {name: "crash-${run.id}", baseRootPackage: shop}
    expect: {status: 201}
    capture: {env: id}
  - running: {environment: "${env}"}
  - publish:
      name: shop
      version: 2.0.0
      kind: rest-service
      schema: "{}"
      image: "turbo-engine/petstore:e2e"
      env: {PORT: none}
  - rebuild: {environment: "${env}", version: 2.0.0}
  - name: version 2 is available
    assert:
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: deploy-shop, annotations: {turboengine.io/package-version: 2.0.0}}
      status: {availableReplicas: 1}
    timeout: 90s
    for: 15s
cleanup:
  - http: {service: envmanager, method: DELETE, path: "/v1/environments/${env}"}
"""


def test_a_v2_that_crashes(red_run, tmp_path):
    """A crashing update ends the wait early; the report names the step and the crash."""
    scenario = tmp_path / "crashing.yaml"
    scenario.write_text(CRASHING.replace("[turbo-engine.yaml]", f"[{ROOT / 'scenarios' / 'turbo-engine.yaml'}]"))
    ran = red_run("--scenarios", scenario)
    assert ran.code == 1, ran.output
    assert "version 2 is available" in ran.first_screen
    assert "CrashLoopBackOff" in ran.first_screen or "exit code" in ran.first_screen
