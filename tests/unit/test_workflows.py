"""The workflows and the Taskfile: checked by the tools that read them, and against the command line that they call."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s_e2e.base import files
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import assets, bundles
from k8s_e2e.cluster.bundles import Bundle, GoBuild
from k8s_e2e.model.layout import MARKER
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings
from tests import wheel
from tests.lacking import lacking
from tests.unit.command_lines import problem

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TASK = Path(sys.executable).parent / "task"

# An action's code runs with our token, so it is named by commit: a tag can be moved.
PINS = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/cache": ("27d5ce7f107fe9357f9df03efb73ab90386fccae", "v5.0.5"),
    "helm/kind-action": ("ef37e7f390d99f746eb8b610417061a60e82a6cc", "v1.14.0"),
}
PERMISSIONS = {
    "k8s-e2e": {"contents": "read", "pull-requests": "write"},
    "ci": {"contents": "read"},
}
ACTIONLINT = Bundle(
    name="actionlint",
    provides={"actionlint": "bin/actionlint"},
    versions={"actionlint": "1.7.12"},
    build=GoBuild(
        module="actionlint",
        within=ROOT / "tests" / "tools",
        output="bin/actionlint",
        package="github.com/rhysd/actionlint/cmd/actionlint",
    ),
)


def built() -> Path:
    """Build actionlint, or take it from the cache; end the test for want of it."""
    try:
        home, _, _ = assets.obtain(ACTIONLINT, Settings(), print)
    except EnvironmentFailure as error:
        lacking(f"actionlint cannot be built: {error}")
    return home / "bin" / "actionlint"


@pytest.fixture(scope="session")
def actionlint():
    """The program, built the first time and then taken from the cache."""
    return built()


@pytest.fixture(scope="session")
def tasks() -> list[str]:
    """The names that the real `task` lists."""
    done = subprocess.run([TASK, "--list-all", "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [task["name"] for task in json.loads(done.stdout)["tasks"]]


def workflow(path: Path) -> dict[Any, Any]:
    """Read a workflow; the key `on` reads as True, as YAML 1.1 has it."""
    read: dict[Any, Any] = yaml.safe_load(path.read_text())
    return read


def steps(path: Path) -> list[dict[str, Any]]:
    """Return the steps of all jobs of a workflow."""
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> list[str]:
    """Return what the steps of a workflow run."""
    return [step["run"] for step in steps(path) if "run" in step]


@pytest.mark.tool
def test_actionlint_is_content(actionlint):
    """GitHub's own rules hold for each workflow: keys, types, expressions, contexts."""
    argv = [actionlint, "-no-color", "-shellcheck=", "-pyflakes=", *WORKFLOWS]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_without_actionlint_ci_is_not_green(monkeypatch):
    """Where it cannot be built the checks are skipped on somebody's machine, and fail where nobody would notice."""

    def obtain(*_):
        raise EnvironmentFailure("there is no go")

    monkeypatch.setattr(assets, "obtain", obtain)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(pytest.fail.Exception, match="cannot be built: there is no go"):
        built()
    monkeypatch.delenv("GITHUB_ACTIONS")
    with pytest.raises(pytest.skip.Exception, match="cannot be built: there is no go"):
        built()


@pytest.mark.tool
def test_actionlint_finds_what_is_wrong(actionlint, tmp_path):
    """The check above can fail: an expression on a context that is not there is refused."""
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("github.ref", "github.reff"))
    done = subprocess.run([actionlint, "-no-color", broken], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "reff" in done.stdout


@pytest.mark.tool
def test_the_shell_of_the_steps_is_sound(actionlint):
    """Shellcheck, too, has nothing to say about what the steps run."""
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        lacking("shellcheck is not installed (Debian: apt-get install shellcheck)")
    argv = [actionlint, "-no-color", f"-shellcheck={shellcheck}", "-pyflakes=", *WORKFLOWS]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(path):
    """Every action stands there by the commit of the table, with its version beside it."""
    used = re.findall(r"uses:\s*(\S+)(.*)", path.read_text())
    assert used
    for reference, comment in used:
        name, _, commit = reference.partition("@")
        assert (commit, comment.strip(" #")) == PINS.get(name)
        assert re.fullmatch(r"[0-9a-f]{40}", commit)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_permissions_are_the_least(path):
    """A workflow has the permissions of the table, a job never more, and the checkout keeps no token."""
    assert workflow(path)["permissions"] == PERMISSIONS[path.stem]
    assert [job.get("permissions", {}) for job in workflow(path)["jobs"].values() if job.get("permissions")] == []
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False] * len(checkouts)
    assert "pull_request_target" not in path.read_text()  # would give a fork's code our token


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_everything_has_a_limit(path):
    """Each job has a timeout, each step that runs the kit or an action that may hang has its own, within the job's."""
    read = workflow(path)
    assert read["concurrency"]["cancel-in-progress"] is True
    assert "github.ref" in read["concurrency"]["group"]
    for job in read["jobs"].values():
        limits = [step["timeout-minutes"] for step in job["steps"] if "timeout-minutes" in step]
        assert max(limits, default=0) <= job["timeout-minutes"]
        for step in job["steps"]:
            if "./e2e" in step.get("run", ""):
                assert "timeout-minutes" in step, step["name"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_run_what_is_there(path, tasks, tmp_path, monkeypatch):
    """Each step is one line, and the kit, task or script that it calls would take it as it stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci-report").mkdir()
    for command in commands(path):
        assert "\n" not in command.strip()
        assert problem(command, tasks=tasks) == "", command


def test_a_run_is_saved_whatever_happens():
    """After the run, collecting, analysing, reporting, keeping and publishing follow always, in that order."""
    read = workflow(ROOT / ".github" / "workflows" / "k8s-e2e.yml")
    found = steps(ROOT / ".github" / "workflows" / "k8s-e2e.yml")
    at = next(number for number, step in enumerate(found) if " run " in step.get("run", ""))
    assert found[at]["run"].startswith("exec ")  # the signal of a cancelled job reaches the kit, not a shell
    after = found[at + 1 :]
    assert [step["if"].split(" && ")[0] for step in after] == ["always()"] * len(after)
    assert [step.get("run") for step in after] == [
        "exec ./e2e stage collect --run-dir ci-report",
        "exec ./e2e stage trace-analysis --run-dir ci-report",
        "exec ./e2e stage report --run-dir ci-report",
        None,
        'exec ./e2e publish ci-report --artifact "$ARTIFACT"',
    ]
    kept = after[3]["with"]
    assert (kept["path"], kept["retention-days"], kept["name"]) == ("ci-report", 14, "${{ env.ARTIFACT }}")
    assert "github.run_attempt" in read["env"]["ARTIFACT"]


def test_the_runner_has_the_clusters_that_the_kit_would_make():
    """The workflow asks kind-action for the kit's own kind and node image, and for a kubectl of the node's version."""
    path = ROOT / ".github" / "workflows" / "k8s-e2e.yml"
    asked = next(step["with"] for step in steps(path) if step.get("uses", "").startswith("helm/kind-action@"))
    assert (asked["version"], asked["node_image"]) == (f"v{bundles.KIND}", bundles.KIND_NODE_IMAGE)
    assert f"node:{asked['kubectl_version']}@" in asked["node_image"]


def test_one_job_stands_for_all():
    """`required` needs every other job, runs whatever became of them, and asks for as many successes."""
    jobs = dict(workflow(ROOT / ".github" / "workflows" / "ci.yml")["jobs"])
    required = jobs.pop("required")
    assert sorted(required["needs"]) == sorted(jobs)
    assert required["if"] == "always()"
    assert required["steps"][0]["run"].count("success") == len(jobs)


def test_tasks_run_what_is_there(tasks, tmp_path, monkeypatch):
    """What each task would run, as the real `task` says it, is a command that exists and takes it."""
    assert {"k8s:e2e", "k8s:e2e:cleanup", "k8s:investigate", "test", "lint", "docs", "bench"} <= set(tasks)
    for name in tasks:
        given = {"k8s:investigate": ["reports/runs/one"], "k8s:e2e:cleanup": ["dev"]}.get(name, [])
        done = subprocess.run(
            [TASK, "--color=false", "--dry", name, "--", *given], cwd=ROOT, capture_output=True, text=True, check=False
        )
        ran = re.findall(r"^task: \[\S+\] (.*)$", done.stderr, re.MULTILINE)
        assert ran, f"{name}: {done.stderr}"
        for command in ran:
            program, _, rest = command.partition(" ")
            assert problem(command, tasks=tasks) == "", command
            assert program == "./e2e" or (Path(sys.executable).parent / Path(program).name).exists(), command
            assert all((ROOT / word).exists() for word in rest.split() if word.endswith(".py")), command


def cleaned_up(root: Path, record: RunRecord | None, *given: str) -> str:
    """Return the command that the real `task` would clean up by after a run with this record, else what it says."""
    (root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    if record is not None:
        directory = root / "reports" / "runs" / "one"
        directory.mkdir(parents=True)
        files.write_json(directory / MARKER, record)
    argv = [
        TASK,
        "--color=false",
        "--dry",
        "--taskfile",
        ROOT / "Taskfile.yml",
        "--dir",
        root,
        "k8s:e2e:cleanup",
        "--",
        *given,
    ]
    said = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False).stderr
    ran: list[str] = re.findall(r"^task: \[\S+\] (.*)$", said, re.MULTILINE)
    return ran[0] if ran else said


@pytest.mark.parametrize(
    ("record", "given", "command"),
    [
        (RunRecord(run_id="1", provider="kind", cluster="run-1"), [], "./e2e down run-1 --provider kind"),
        (
            RunRecord(run_id="1", provider="existing", cluster="my ctx", parameters={"profile_named": "p.toml"}),
            [],
            "./e2e down 'my ctx' --provider existing --profile p.toml",
        ),
        (RunRecord(run_id="1", provider="kind", cluster="mine"), ["mine"], "./e2e down mine"),
        (None, ["dev", "--provider", "kind"], "./e2e down dev --provider kind"),
    ],
)
def test_cleaning_up_removes_what_the_run_made(record, given, command, tmp_path):
    """The cluster that the newest run made for itself, else the one that is named."""
    assert cleaned_up(tmp_path, record, *given) == command
    assert problem(command) == ""


@pytest.mark.parametrize(
    "record",
    [
        RunRecord(run_id="1", provider="kind", cluster="mine"),
        RunRecord(run_id="1", provider="", cluster=""),
        None,
    ],
)
def test_cleaning_up_takes_no_cluster_that_was_there_before(record, tmp_path):
    """A cluster that was named for the run stays, and `dev` too where there is no run: the one meant is asked for."""
    said = cleaned_up(tmp_path, record)
    assert "name the cluster to remove" in said
    assert "./e2e down" not in said


@pytest.mark.parametrize(
    "command",
    [
        "./e2e run --provider nosuch",
        "exec ./e2e stage colect --run-dir ci-report",
        "exec ./e2e runs",
        "./e2e test --quik",
        "task nosuch",
        "python tests/wheel.py tst dist",
    ],
)
def test_a_wrong_command_is_found(command):
    """The checks above can fail."""
    assert problem(command, tasks=["lint"]) != ""


def test_the_quick_tests_are_the_same_everywhere():
    """The launcher and the tests of the wheel leave out the same."""
    assert f"--quick) tier='{wheel.QUICK}'" in (ROOT / "e2e").read_text()
