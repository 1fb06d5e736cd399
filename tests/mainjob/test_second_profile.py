"""Somebody else's operator, with a profile of its own, runs through all five stages by the same command."""

import pytest

from tests.mainjob.runs import ROOT, Ran

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(1200)]

PROFILE = ROOT / "tests" / "second_profile" / "k8s-e2e.toml"

CRASHING = """
name: crashing
description: Boards that hold no book are a value that this operator does not expect.
steps:
  - apply:
      apiVersion: library.example.org/v1
      kind: Bookshelf
      metadata: {name: empty}
      spec: {books: [Emma], booksPerBoard: 0}
  - name: the shelf is arranged
    assert:
      apiVersion: library.example.org/v1
      kind: Bookshelf
      metadata: {name: empty}
      status: {conditions: [{type: Ready, status: "True"}]}
    timeout: 5s
cleanup:
  - delete: {apiVersion: library.example.org/v1, kind: Bookshelf, metadata: {name: empty}}
"""


@pytest.fixture(scope="module")
def run_on(kit, kept_cluster, tmp_path_factory):
    """Return a function that runs a profile on the kept cluster."""

    def run(profile, *words):
        path = tmp_path_factory.mktemp("second-profile") / "run"
        done = kit(
            "run", "--provider", "local", "--cluster", kept_cluster, "--profile", profile, "--run-dir", path, *words
        )
        return Ran(done.returncode, path, done.stdout + done.stderr)

    return run


@pytest.fixture(scope="module")
def ran(run_on):
    """The whole job for the shipped second profile."""
    return run_on(PROFILE)


def test_all_five_stages_pass(ran):
    """The run exits 0, its first screen says so, and nothing is found or missed."""
    assert ran.code == 0, ran.output[-4000:]
    assert [stage["status"] for stage in ran.json("run.json")["stages"]] == ["passed"] * 5
    assert "# PASSED: 10 of 10 steps passed" in ran.first_screen
    found = ran.json("findings.json")
    assert (found.get("findings", []), found.get("blind_spots", [])) == ([], [])


def test_nothing_of_another_platform_is_made(ran):
    """Only the image that the profile names is built and loaded; no trace and no request is waited for."""
    assert [image["reference"] for image in ran.json("run.json")["images"]] == ["bookshelf-operator:e2e"]
    assert not (ran.path / "traces.json").exists()
    assert "no traces: the profile has no [traces]" in ran.output
    report = (ran.path / "REPORT.md").read_text()
    assert "names no trace source" in report
    assert "Blind spots: none" in report


def test_its_custom_resource_and_its_writes_are_kept(ran):
    """The shelf is in a file of its own; each write that the operator logged is a row."""
    shelves = (ran.path / "k8s" / "bookshelves.yaml").read_text()
    assert "kind: Bookshelf" in shelves
    assert "booksPerBoard: 2" in shelves
    rows = ran.json("k8s/operator-actions.json")["actions"]
    assert [(row["action"], row["resource_kind"], row["resource_name"]) for row in rows] == [
        ("Create", "ConfigMap", "novels-board-1"),
        ("Create", "ConfigMap", "novels-board-2"),
        ("UpdateStatus", "Bookshelf", "novels"),
        ("Update", "ConfigMap", "novels-board-1"),
        ("Delete", "ConfigMap", "novels-board-2"),
        ("UpdateStatus", "Bookshelf", "novels"),
        ("Delete", "ConfigMap", "novels-board-1"),
    ][: 7 if len(rows) == 7 else 6]  # the garbage collector may have been first
    assert (ran.path / "k8s" / "logs-bookshelf-operator.txt").stat().st_size > 0


def test_an_operator_that_crashes_is_named_without_a_log_of_its_writes(run_on, tmp_path):
    """With no [operator] in the profile, the report names the exception, and says from managedFields who wrote what."""
    text = PROFILE.read_text().partition("[operator]")[0]
    for key, path in (("overlay", "manifests"), ("context", "bookshelf")):
        text = text.replace(f'{key} = "{path}"', f'{key} = "{PROFILE.parent / path}"')
    profile, scenario = tmp_path / "k8s-e2e.toml", tmp_path / "crashing.yaml"
    profile.write_text(text)
    scenario.write_text(CRASHING)
    red = run_on(profile, "--scenarios", scenario)
    assert red.code == 1, red.output[-4000:]
    assert "the shelf is arranged" in red.first_screen
    assert "range() arg 3 must not be zero" in red.first_screen
    assert f"--profile {profile}" in red.first_screen
    assert not (red.path / "k8s" / "operator-actions.json").exists()
    report = (red.path / "REPORT.md").read_text()
    assert "names no log of its operator" in report
    assert "| `k8s-e2e` | `Bookshelf/empty` |" in report
    errors = [row for row in red.json("findings.json")["findings"] if row["severity"] == "error"]
    assert [row["id"] for row in errors] == ["crash:Deployment/bookshelf-operator/operator"]
    assert errors[0]["fault"] == "product"
