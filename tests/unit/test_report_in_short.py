"""What the console says of a run that failed: no need to open the report to know the cause."""

import pytest
from click.testing import CliRunner

from k8s_e2e import pipeline
from k8s_e2e.cli import cli
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.report import write_reports
from k8s_e2e.report.in_short import in_short
from tests.unit import run_builder as made
from tests.unit.test_report_text import HOSTILE, hostile_run


def reported(builder, status="passed"):
    """Write a run with its findings and reports, and with the outcome of the report stage."""
    builder.stage(
        "report", 100, 1, status, "" if status == "passed" else "no space left", exit_code=int(status != "passed")
    )
    builder.record.exit_code = 1
    run = builder.write()
    diagnose(run)
    write_reports(run)
    return run


def test_cause_and_fix_are_those_of_the_comment(tmp_path):
    """The two lines are the first finding's, in the words of the comment."""
    run = reported(made.red_image(tmp_path))
    cause, fix = in_short(run)
    comment = run.path("pr-comment.md").read_text("utf-8").replace("**", "").replace("`", "")
    assert cause.startswith("Cause (fault lies with: ")
    assert "Image example.test/users:nope does not exist" in cause
    assert f"- {cause}\n- {fix}\n" in comment
    assert fix.startswith("Fix: ")


def test_findings_of_an_earlier_pass_tell_nothing(tmp_path):
    """Where the report stage failed, or no finding is there, the failing step's message is told."""
    for number, builder in enumerate((made.red_image(tmp_path / "0"), made.red_image(tmp_path / "1"))):
        run = reported(builder, "passed" if number else "failed")
        if number:
            run.findings.unlink()
        assert in_short(run) == ["Failed: step users/02 (deployment is available): waited 20 s for deploy-users"]


def test_a_stage_that_failed_is_told_with_its_hint(tmp_path):
    """Without a finding: the stage's own error and hint; a run that passed has nothing to tell."""
    builder = made.RunBuilder(tmp_path / "red")
    builder.stage("deploy", 0, 9, "failed", "no space left while writing /x", exit_code=3, hint="free some space")
    run = builder.write()
    assert in_short(run) == ["Failed: stage deploy: no space left while writing /x", "Hint: free some space"]
    assert in_short(made.green(tmp_path / "green").write()) == []


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:12]) for text in HOSTILE])
def test_the_end_of_a_run_says_why_it_failed(tmp_path, monkeypatch, text):
    """`run` prints the report's path and below it, indented, one line each; nothing of the run's text is a command."""
    builder = hostile_run(tmp_path / "run", text)
    run = reported(builder)
    monkeypatch.setattr(pipeline, "run", lambda *_: builder.record)
    done = CliRunner().invoke(cli, ["run", "--run-dir", str(run.root), "--profile", "other.toml"])
    lines = done.stdout.split("\n")
    assert done.exit_code == 1
    assert lines[0] == f"FAILED: {run.report}"
    assert [line.partition(":")[0].partition(" (")[0] for line in lines[1:]] == ["  Cause", "  Fix", ""]
    assert "##[" not in done.stdout
    assert "\x1b" not in done.stdout
    assert all(len(line) < 330 for line in lines[1:])
