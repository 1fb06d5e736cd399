"""`k8s-e2e publish DIR`: each channel says what became of it, and the exit code only whether it was used rightly."""

import json
import shutil
import subprocess
import sys

import pytest

from k8s_e2e.diagnosis import diagnose
from k8s_e2e.report import write_reports
from tests.unit import github_stub as gh
from tests.unit import run_builder as made
from tests.unit.test_publish_annotations import read_as_github
from tests.unit.test_report_text import hostile_run

HOSTILE = (
    "%0A::error::x | ``` </script> ::error::pwned\r<!-- k8s-e2e -->\n::stop-commands::x\n##[error]x " + "y" * 1_000_000
)


def published(run_dir, *words, **env):
    """Run the command in a process of its own, with nothing but ``env`` of GitHub's variables."""
    return subprocess.run(
        [sys.executable, "-c", "from k8s_e2e.cli import main; main()", "publish", str(run_dir), *words],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **env}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    """A failed run with hostile text wherever a cluster could put it, and all its reports."""
    run = hostile_run(tmp_path_factory.mktemp("runs") / "red", HOSTILE).write()
    diagnose(run)
    write_reports(run)
    return run.root


@pytest.fixture(scope="module")
def green(tmp_path_factory):
    """A run that passed."""
    run = made.green(tmp_path_factory.mktemp("runs") / "green").write()
    diagnose(run)
    write_reports(run)
    return run.root


@pytest.fixture
def step(tmp_path):
    """The variables of a step of a workflow without a pull request."""
    return {
        "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_REPOSITORY": gh.REPOSITORY,
        "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "200", "GITHUB_RUN_ATTEMPT": "2",
        "GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_SHA": "ab" * 20,
    }  # fmt: skip


def test_at_home_each_channel_says_why_it_is_skipped(red):
    """Outside of GitHub nothing is sent anywhere, and that is fine."""
    done = published(red, GITHUB_TOKEN="ghp_in_my_shell", GITHUB_REPOSITORY="octo/shop")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["summary", "skipped"], ["comment", "skipped"], ["annotations", "skipped"],
    ]  # fmt: skip
    assert "GITHUB_STEP_SUMMARY is not set" in lines[0]
    assert "--pull-request NUMBER" in lines[1]


def test_a_dry_run_shows_everything_and_sends_nothing(red, step, tmp_path):
    """All three texts are printed, indented and inert; GitHub is not asked, the summary not written."""
    with gh.github() as github:
        done = published(red, "--dry-run", "--pull-request", "7", GITHUB_API_URL=github.url, GITHUB_TOKEN="t", **step)
        assert github.requests == []
    assert done.returncode == 0
    assert not (tmp_path / "summary").exists()
    assert [line.split(": ")[1] for line in done.stdout.splitlines() if not line.startswith(" ")] == [
        "would be sent"
    ] * 3
    assert "    <!-- run 200 attempt 2 -->" in done.stdout
    assert not [line for line in done.stdout.splitlines() if read_as_github(line)]
    assert "##[" not in done.stdout


def test_a_push_has_summary_and_annotations(red, step, tmp_path):
    """The summary is appended, with the run's page and the artifact; on stdout the annotations alone are live."""
    (tmp_path / "summary").write_text("of another tool")
    done = published(red, "--artifact", "e2e @2", **step)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "summary").read_text("utf-8")
    assert text.startswith("of another tool\n\n# ❌ FAILED: ````step users/02 (%0A::error::x | ```")
    head = text.split("## 1.")[0]
    assert "[workflow run, attempt 2](https://github.com/octo/shop/actions/runs/200/attempts/2)" in head
    assert "[artifact](https://github.com/octo/shop/actions/runs/200/attempts/2#artifacts) `e2e @2`" in head
    commands = [read_as_github(line) for line in done.stdout.splitlines() if read_as_github(line)]
    assert [level for level, _, _ in commands] == ["error"]
    assert "comment: skipped: event push has no pull request" in done.stdout
    assert "summary: published" in done.stdout
    assert "##[" not in done.stdout.replace(next(line for line in done.stdout.splitlines() if read_as_github(line)), "")


def test_a_run_that_passed_prints_no_annotation(green, step):
    """A green run leaves a summary and three lines."""
    done = published(green, **step)
    assert done.returncode == 0
    assert not [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert "annotations: published: 0 annotations" in done.stdout


def test_the_pull_request_of_the_ref_is_enough(green, step):
    """Without an event's file the number is that of refs/pull/N/merge."""
    with gh.github() as github:
        github.tokens["ghs_1"] = gh.ACTIONS
        done = published(green, **step | {"GITHUB_API_URL": github.url, "GITHUB_TOKEN": "ghs_1",
                                          "GITHUB_REF": "refs/pull/7/merge"})  # fmt: skip
        (body,) = github.bodies()
    assert done.returncode == 0
    assert "comment: published: created: " in done.stdout
    assert body.startswith("<!-- k8s-e2e -->\n<!-- run 200 attempt 2 -->\n### ✅ PASSED: 3 of 3 steps passed\n")


def test_a_hostile_run_gives_one_comment_with_one_marker(red, step):
    """A marker inside the run's text is no marker: the second publication rewrites the first comment."""
    with gh.github() as github:
        github.tokens["ghs_1"] = gh.ACTIONS
        for attempt in ("1", "2"):
            published(red, **step | {"GITHUB_API_URL": github.url, "GITHUB_TOKEN": "ghs_1",
                                     "GITHUB_REF": "refs/pull/7/merge", "GITHUB_RUN_ATTEMPT": attempt})  # fmt: skip
        (body,) = github.bodies()
    assert body.startswith("<!-- k8s-e2e -->\n<!-- run 200 attempt 2 -->\n")
    assert len(body) <= 60_000


def test_a_run_at_home_may_comment_when_told_to(green):
    """With --pull-request it does, but never over the comment of a workflow's run."""
    with gh.github() as github:
        github.tokens["ghp_mine"] = gh.PERSON
        env = {"GITHUB_API_URL": github.url, "GITHUB_TOKEN": "ghp_mine", "GITHUB_REPOSITORY": gh.REPOSITORY}
        assert "created" in published(green, "--pull-request", "7", **env).stdout
        assert "updated" in published(green, "--pull-request", "7", **env).stdout
        github.comments.clear()
        github.add("<!-- k8s-e2e -->\n<!-- run 5 attempt 1 -->\n", gh.PERSON)
        assert "a later run has commented" in published(green, "--pull-request", "7", **env).stdout


def test_an_unreachable_github_is_a_warning_and_exit_code_0(green, step):
    """A green run stays green: one warning, one line, within the deadline."""
    done = published(green, **step | {"GITHUB_API_URL": "http://127.0.0.1:9", "GITHUB_TOKEN": "t",
                                      "GITHUB_REF": "refs/pull/7/merge", "K8S_E2E_PUBLISH_TIMEOUT_S": "1"})  # fmt: skip
    assert done.returncode == 0
    assert [read_as_github(line)[0] for line in done.stdout.splitlines() if read_as_github(line)] == ["warning"]
    assert "comment: failed: http://127.0.0.1:9 did not answer GET" in done.stdout


@pytest.mark.parametrize("there", [0, 500_000, 900 * 1024 - 700, 900 * 1024 - 10])
def test_the_summary_stays_within_its_budget(red, step, tmp_path, there):
    """What is in the file already counts; where nothing fits, that is said."""
    (tmp_path / "summary").write_text("x" * there)
    done = published(red, **step)
    assert done.returncode == 0
    size = (tmp_path / "summary").stat().st_size
    assert size <= 900 * 1024
    assert ("summary: failed: no room" in done.stdout) == (size == there) == (there == 900 * 1024 - 10)


def test_a_summary_that_cannot_be_written_is_told(green, step, tmp_path):
    """The channel has failed, with the reason; the others go on."""
    done = published(green, **step | {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert done.returncode == 0
    assert f"summary: failed: cannot write {tmp_path}: Is a directory" in done.stdout
    assert "annotations: published: 1 annotation" in done.stdout


def test_annotations_stand_at_a_file_of_the_repository_only(tmp_path, step):
    """A step's source is named relative to the checkout; one that is outside of it, or not there, is not."""
    workspace = tmp_path / "checkout"
    (workspace / "scenarios").mkdir(parents=True)
    (workspace / "scenarios/users.yaml").write_text("")
    (tmp_path / "secret.yaml").write_text("")
    for source, expected in (("scenarios/users.yaml:8", {"file": "scenarios/users.yaml", "line": "8"}),
                             ("../secret.yaml:1", {}), ("scenarios/none.yaml:1", {}), ("", {})):  # fmt: skip
        builder = made.red_crash(tmp_path / f"run{len(source)}")
        builder.results.scenarios[0].steps[1].source = source
        run = builder.write()
        diagnose(run)
        for name in ("REPORT.md", "step-summary.md", "pr-comment.md"):
            run.path(name).write_text("# t\n")
        done = published(run.root, **step | {"GITHUB_WORKSPACE": str(workspace)})
        (told,) = [read_as_github(line)[1] for line in done.stdout.splitlines() if read_as_github(line)]
        assert {key: value for key, value in told.items() if key != "title"} == expected


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("directory", "is no run directory"),
        ("run.json", "is no run directory"),
        ("REPORT.md", "REPORT.md: No such file"),
        ("pr-comment.md", "pr-comment.md: No such file"),
    ],
)
def test_a_directory_without_a_report_is_one_line_and_exit_code_2(green, tmp_path, step, broken, says):
    """What is absent is named, with what writes it; nothing is sent."""
    root = tmp_path / "run"
    if broken != "directory":
        shutil.copytree(green, root)
        (root / broken).unlink()
    done = published(root, **step)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "summary").exists()


def test_a_name_that_cannot_be_one_is_exit_code_2(green):
    """A name that would end the hidden line is a wrong use of the command."""
    done = published(green, "--name", "a --> b")
    assert done.returncode == 2
    assert "--name" in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"GITHUB_REPOSITORY": "../..", "GITHUB_TOKEN": "t"},
        {"GITHUB_RUN_ID": "x", "GITHUB_RUN_ATTEMPT": "-1"},
        {"GITHUB_SERVER_URL": "https://x)](javascript:alert(1)"},
        {"GITHUB_EVENT_PATH": "/nonexistent"},
        {"GITHUB_API_URL": "ftp://x", "GITHUB_TOKEN": "t"},
    ],
)
def test_variables_that_make_no_sense_break_nothing(green, step, tmp_path, env):
    """What is not what it should be is left out, and the rest is published."""
    done = published(green, **step | {"GITHUB_REF": "refs/pull/7/merge"} | env)
    assert done.returncode == 0
    assert "summary: published" in done.stdout
    assert "comment: skipped: " in done.stdout
    assert "javascript" not in (tmp_path / "summary").read_text("utf-8")


def test_an_events_file_names_pull_request_and_commit(green, step, tmp_path):
    """The branch's own commit is named, not that of the merge."""
    event = {
        "pull_request": {"number": 7, "head": {"sha": "cd" * 20, "repo": None}, "base": {"repo": {"full_name": "a/b"}}}
    }
    (tmp_path / "event.json").write_text(json.dumps(event))
    done = published(
        green, "--dry-run", **step | {"GITHUB_EVENT_PATH": str(tmp_path / "event.json"), "GITHUB_TOKEN": "t"}
    )
    assert "comment: would be sent" in done.stdout
    assert "characters to octo/shop#7" in done.stdout
    assert "Commit `cdcdcdcdcd`" in done.stdout
