"""The report that a signal handler writes."""

import shlex
import subprocess
import sys

import pytest

from k8s_e2e.model.layout import RunDir
from k8s_e2e.report import minimal
from tests.unit import run_builder as made


def test_it_says_how_far_the_run_came(tmp_path):
    """Verdict, note and the failing step are told from run.json and the results alone."""
    builder = made.red_image(tmp_path)
    builder.record.stages = builder.record.stages[:1]
    builder.stage("test", 30, 25, "interrupted", "stopped by signal 2", exit_code=130)
    run = builder.write()
    minimal(run, "stopped by SIGINT")
    text = run.report.read_text("utf-8")
    assert "# FAILED: step users/02" in text
    assert "stopped by SIGINT" in text
    assert "minimal: true" in text


@pytest.mark.parametrize(
    ("stays", "passed", "first"),
    [
        (True, ["deploy"], "collect"),
        (False, ["deploy"], "trace-analysis"),
        (True, ["deploy", "test", "collect"], "trace-analysis"),
        (True, ["deploy", "collect", "test"], "collect"),  # tested again, and not collected since
        (False, ["deploy", "test", "collect", "trace-analysis"], "report"),
    ],
)
def test_what_it_recommends_can_be_run(tmp_path, monkeypatch, stays, passed, first):
    """The command is whole, and goes on where the run can: nothing is collected from a cluster that is gone."""
    builder = made.red_image(tmp_path / "a run")
    builder.record.parameters = {"program": "./e2e", "profile_named": "other.toml"}
    builder.record.stages = []
    for number, name in enumerate(passed):
        builder.stage(name, number, 1)
    run = builder.write()
    monkeypatch.chdir(tmp_path)
    minimal(run, "stopped by signal 15", stays=stays)
    where = shlex.quote(str(run.root.relative_to(tmp_path)))
    line = f"./e2e run --from {first} --run-dir {where} --profile other.toml"
    assert f"**Next**: `{line}`" in run.report.read_text("utf-8")


def test_github_is_told_too(tmp_path):
    """Summary and comment are the minimal ones as well, in place of those of an earlier pass; the note is open."""
    run = made.red_image(tmp_path).write()
    for name in ("pr-comment.md", "step-summary.md"):
        run.path(name).write_text("of an earlier pass")
    minimal(run, "stopped by SIGTERM")
    screen = run.path("pr-comment.md").read_text("utf-8").split("<details>")[0]
    assert screen.startswith("<!-- k8s-e2e -->\n### ❌ FAILED: `step users/02")
    assert "- **Note**: `stopped by SIGTERM`" in screen
    assert "stopped by SIGTERM" in run.path("step-summary.md").read_text("utf-8")


def test_nothing_at_all_is_still_a_report(tmp_path):
    """Without any file the report says that nothing is known."""
    minimal(RunDir(tmp_path), "disk full")
    text = (tmp_path / "REPORT.md").read_text("utf-8")
    assert "# INCOMPLETE" in text
    assert "disk full" in text


def test_it_is_quick_and_draws_nothing(tmp_path):
    """It loads neither pandas nor matplotlib nor any rule, and takes far less than the seconds that a signal leaves."""
    run = made.red_image(tmp_path).write()
    code = (
        "import sys, time; began = time.process_time(); from pathlib import Path\n"
        "from k8s_e2e.model.layout import RunDir; from k8s_e2e.report import minimal\n"
        f"minimal(RunDir(Path({str(run.root)!r})), 'stopped')\n"
        "heavy = [name for name in sys.modules if name.startswith(('pandas', 'matplotlib', 'jinja2', 'pydantic',"
        " 'k8s_e2e.diagnosis.rules', 'k8s_e2e.traces', 'k8s_e2e.evidence'))]\n"
        "print(time.process_time() - began, sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    took, heavy = out.stdout.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert float(took) < 1.0
