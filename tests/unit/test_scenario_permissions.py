"""What the steps of scenarios need, worked out from what they say before any of them runs."""

from pathlib import Path

import pytest

from k8s_e2e.model.profile import Profile, load_profile
from k8s_e2e.platform.permissions import Access, known_kinds
from k8s_e2e.scenarios import loader
from k8s_e2e.scenarios.accesses import needs

SECOND = Path(__file__).parents[1] / "second_profile"
PROFILE = Profile(root=Path("/project"), name="shop", overlay="overlay", namespace="shop-e2e")
STEPS = """
name: things
description: Objects whose kind is written in several ways.
vars: {version: v1, api: "apps/${version}", space: "${run.namespace}", later: v1}
steps:
  - name: by a variable of a variable
    apply: {apiVersion: "${api}", kind: Deployment, metadata: {name: a, namespace: "${space}"}, spec: {}}
    capture: {made: kind, later: apiVersion}
  - name: by what a step captured
    delete: {apiVersion: v1, kind: "${made}", metadata: {name: a}}
  - name: by a variable that a step captured anew
    assert: {apiVersion: "${later}", kind: Service, metadata: {name: a}}
  - name: in a namespace of the run's name
    delete: {apiVersion: v1, kind: Secret, metadata: {name: a, namespace: "x-${run.id}"}}
  - name: by a name that only the run knows
    delete: {apiVersion: v1, kind: Service, metadata: {name: "${made}"}}
"""


@pytest.fixture
def scenarios(tmp_path):
    """Return one scenario with each way of naming a kind."""
    path = tmp_path / "things.yaml"
    path.write_text(STEPS)
    return [loader.read_scenario(path, PROFILE)]


def test_kinds_behind_variables_are_asked_for():
    """The second profile names its custom resource by a variable only: all verbs of its steps are needed."""
    profile = load_profile(SECOND / "k8s-e2e.toml")
    loaded = loader.load(list(profile.scenarios), profile)
    found = needs(loaded, profile.namespace, known_kinds([], profile), {})
    verbs = {access.verb for access in found.accesses if access.resource == "bookshelves"}
    assert verbs >= {"create", "patch", "list", "delete", "watch"}
    assert {access.group for access in found.accesses} == {"", "library.example.org"}
    assert found.unchecked == ()


def test_what_only_the_run_knows_is_named(scenarios):
    """Captures, also those that replace a variable, cannot be asked for: their steps are told, the others are not."""
    found = needs(scenarios, "shop-e2e", {}, {})
    assert found.unchecked == (
        "things: by what a step captured",
        "things: by a variable that a step captured anew",
        "things: in a namespace of the run's name",
    )
    assert Access("get", "apps", "deployments", "shop-e2e") in found.accesses  # whose is it, before it is changed?
    assert Access("patch", "apps", "deployments", "shop-e2e") in found.accesses
    assert Access("delete", "", "services", "shop-e2e") in found.accesses


def test_the_run_s_own_names_are_put_in(scenarios):
    """Where the run has its id already, a namespace called after it is asked for."""
    found = needs(scenarios, "shop-e2e", {}, {"run.id": "r1"})
    assert Access("delete", "", "secrets", "x-r1") in found.accesses
    assert len(found.unchecked) == 2
