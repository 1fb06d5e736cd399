"""The notebook runner: a stage's end is told as it was, whatever happened to its kernel."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import pytest

from k8s_e2e.base import files
from k8s_e2e.base.errors import UsageError
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.model import io
from k8s_e2e.model.layout import STAGES
from k8s_e2e.model.parameters import MODELS
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings
from k8s_e2e.notebooks import runner, source

HEAD = """\
# %% Parameters tags=["parameters"]
run_dir: str = ""
profile: str = ""

# %% Work
from pathlib import Path
from k8s_e2e.base.errors import ExpectationError
from k8s_e2e.model.layout import RunDir
from k8s_e2e.stages.outcome import recorded

with recorded(RunDir(Path(run_dir)), "collect"):
"""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Return a function that runs a stage whose work is the given code."""

    def run(work: str, *, settings: Settings | None = None, after: str = ""):
        path = tmp_path / "collect.py"
        path.write_text(HEAD + textwrap.indent(textwrap.dedent(work), "    ") + after)
        monkeypatch.setattr(source, "path_of", lambda _: path)
        files.write_json(tmp_path / "run" / "run.json", RunRecord())
        return runner.run("collect", {}, tmp_path / "run", settings=settings)

    return run


def test_a_passing_stage_is_recorded_and_exported(stage, tmp_path):
    """A stage that passes leaves its outcome in run.json and its notebook in three forms."""
    result = stage("print('all is well')")
    assert (result.outcome.status, result.outcome.exit_code) == ("passed", 0)
    assert io.load(tmp_path / "run" / "run.json", RunRecord).stage("collect") == result.outcome
    markdown = result.notebook.with_suffix(".md").read_text()
    assert "Stage collect: passed" in markdown
    assert "all is well" in markdown
    assert "import" not in markdown
    assert "all is well" in result.notebook.with_suffix(".html").read_text()


def test_an_error_of_the_kit_keeps_its_exit_code_and_hint(stage):
    """What a stage raises is the outcome: message, hint and exit code."""
    result = stage("raise ExpectationError('pods never came', hint='look at the events')")
    outcome = result.outcome
    assert (outcome.status, outcome.exit_code, outcome.error, outcome.hint) == (
        "failed",
        1,
        "pods never came",
        "look at the events",
    )


def test_a_dead_kernel_is_exit_code_5_and_no_clean_notebook(stage):
    """A kernel that dies fails the stage, and the cell it died in says so."""
    result = stage("import os; os._exit(7)")
    assert (result.outcome.status, result.outcome.exit_code) == ("failed", 5)
    cells = [cell for cell in nbformat.read(result.notebook, 4).cells if cell.cell_type == "code"]
    assert cells[-1].metadata.papermill.status == "failed"
    assert cells[-1].outputs[0].ename == "DeadKernelError"


def test_leaving_the_notebook_early_is_a_failure(stage):
    """``sys.exit(0)`` in mid-notebook does not count as success."""
    result = stage("import sys; sys.exit(0)", after="\n# %% More\nprint('never')\n")
    assert result.outcome.status == "failed"
    assert result.outcome.exit_code == 1


def test_the_watchdog_ends_a_stage_that_hangs(stage, tmp_path, monkeypatch):
    """A stage that runs longer than its limit is stopped with exit code 4 and keeps its output."""
    started = tmp_path / "run" / "started"
    attend = runner._attend

    def attend_once_started(*args, **limit):  # the kernel's own start takes seconds, and many on a busy machine
        wait_for("the stage's start", lambda: started.exists() or Pending("not yet"), timeout_s=90)
        attend(*args, **limit)

    monkeypatch.setattr(runner, "_attend", attend_once_started)
    work = "print('so far', flush=True); Path(run_dir, 'started').touch(); import time; time.sleep(600)"
    result = stage(work, settings=Settings(stage_timeout_s=2.0))
    assert time.time() - started.stat().st_mtime < 60
    assert result.outcome.exit_code == 4
    assert "so far" in result.notebook.read_text()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_stage_and_saves_what_there_is(tmp_path, signum, code):
    """SIGINT and SIGTERM end the stage long before its work would; its output and outcome are saved."""
    files.write_json(tmp_path / "run" / "run.json", RunRecord())
    notebook = tmp_path / "collect.py"
    work = "print('so far', flush=True)\nPath(run_dir, 'started').touch()\nimport time\ntime.sleep(600)\n"
    notebook.write_text(HEAD + textwrap.indent(work, "    "))
    script = f"""
        from pathlib import Path
        from k8s_e2e.notebooks import runner, source
        source.path_of = lambda _: Path({str(notebook)!r})
        raise SystemExit(runner.run("collect", {{}}, Path({str(tmp_path / "run")!r})).outcome.exit_code)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], start_new_session=True)
    try:
        started = tmp_path / "run" / "started"
        wait_for("the stage's start", lambda: started.exists() or Pending("not yet"), timeout_s=90)
        os.kill(child.pid, signum)
        assert child.wait(timeout=40) == code
    finally:
        child.kill()
        child.wait()
    record = io.load(tmp_path / "run" / "run.json", RunRecord).stage("collect")
    assert record is not None
    assert (record.status, record.exit_code) == ("interrupted", code)
    assert "so far" in (tmp_path / "run" / "notebooks" / "collect.ipynb").read_text()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_stage_ended_is_passed_on(stage, tmp_path, monkeypatch, signum):
    """A signal that comes while the notebook is exported is heard by the run, once the stage's end is written."""
    heard = []
    exported = runner.export.export

    def export(*words):
        signal.raise_signal(signum)
        assert not heard
        exported(*words)

    monkeypatch.setattr(runner.export, "export", export)
    before = signal.signal(signum, lambda number, _: heard.append(number))
    try:
        result = stage("print('all is well')")
    finally:
        signal.signal(signum, before)
    assert heard == [signum]
    assert result.outcome.status == "passed"
    assert "all is well" in result.notebook.with_suffix(".html").read_text()
    assert io.load(tmp_path / "run" / "run.json", RunRecord).stage("collect") == result.outcome


def test_unknown_stages_and_parameters_are_refused(tmp_path):
    """An unknown stage or parameter is a usage error that names the known ones."""
    with pytest.raises(UsageError, match="no stage is called 'colect'"):
        runner.run("colect", {}, tmp_path / "run")
    with pytest.raises(UsageError, match=r"'speed'.*run_dir"):
        runner.run("collect", {"speed": 1}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", STAGES)
def test_each_notebook_keeps_to_the_rules(name):
    """A notebook is short, has titled cells, no magics, and parameters that its model knows."""
    text = source.path_of(name).read_text()
    document = source.load(name)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert len(document.cells) <= 12
    assert len(text.splitlines()) <= 120
    assert all(cell.metadata.get("title") for cell in code)
    assert "parameters" in code[0].metadata["tags"]
    declared = {line.split(":")[0] for line in code[0].source.splitlines()}
    assert declared == set(MODELS[name].model_fields)
    assert not [line for line in text.splitlines() if line.startswith(("%", "!"))]
    compile(text, name, "exec")
