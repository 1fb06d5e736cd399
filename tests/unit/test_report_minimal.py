"""The report that a signal handler writes."""

import subprocess
import sys

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
