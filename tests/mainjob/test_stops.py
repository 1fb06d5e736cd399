"""Ctrl-C and SIGTERM in each stage: outputs saved, nothing left behind, the right exit code."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from k8s_e2e import pipeline
from k8s_e2e.evidence import manifest, recorder
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.settings import Settings
from tests.cluster.leftovers import assert_nothing_left, host_state
from tests.mainjob.runs import KIT, ROOT

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(3600)]

SLOW = """
name: slow
description: Waits for something that never comes.
steps:
  - name: a deployment that nobody makes
    assert: {apiVersion: apps/v1, kind: Deployment, metadata: {name: nobody-makes-it}}
    timeout: 120s
"""


# What a stage waits in, so that it is stopped in mid-work however quick it is; IPython runs this when a kernel starts.
WITHIN = {
    "collect": ("k8s_e2e.evidence.resources", "clean"),
    "trace-analysis": ("k8s_e2e.traces.analysis", "summarise"),
    "report": ("k8s_e2e.report.write", "png"),
}
WAIT = """
import importlib, pathlib, time
def wait(*_, **__):
    pathlib.Path({marker!r}).touch()
    time.sleep(600)
setattr(importlib.import_module({module!r}), {name!r}, wait)
"""


def _stopped(signum: int, words: list[str], log: Path, reached: Callable[[str], bool], **env: str) -> int:
    """Start a run, signal it once ``reached`` says so of its output, and return its exit code."""
    with log.open("w") as sink:
        child = subprocess.Popen(
            [str(KIT), *words], cwd=ROOT, env={**os.environ, "NO_COLOR": "1", **env}, stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + 240
        while not reached(text := log.read_text()):
            assert child.poll() is None, f"ended before the signal: {text[-2000:]}"
            assert time.monotonic() < deadline, f"what was waited for never came: {text[-2000:]}"
            time.sleep(0.05)
        child.send_signal(signum)
        return child.wait(timeout=90)
    finally:
        if child.poll() is None:
            child.terminate()  # not killed: the run removes its own cluster
            child.wait(120)


def _stopped_within(stage: str, signum: int, run: Path, tmp_path: Path) -> int:
    """Go on with a run from ``stage``, stop it in the middle of that stage's work, and return its exit code."""
    (run / "notebooks" / f"{stage}.ipynb").unlink(missing_ok=True)
    marker, (module, name) = tmp_path / "reached", WITHIN[stage]
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "wait.py").write_text(WAIT.format(marker=str(marker), module=module, name=name))
    words = ["run", "--from", stage, "--run-dir", str(run)]
    there = str(startup.parents[1])
    return _stopped(signum, words, tmp_path / f"{stage}.log", lambda _: marker.exists(), IPYTHONDIR=there)


def _check(run: Path, stage: str, code: int) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["exit_code"] == code
    assert next(row for row in record["stages"] if row["name"] == stage)["status"] == "interrupted"
    assert (run / "notebooks" / f"{stage}.ipynb").exists()
    assert f"stopped by signal {code - 128}" in (run / "REPORT.md").read_text()[:2000]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_cluster_comes_up_leaves_no_cluster(tmp_path, signum):
    """A signal in stage deploy ends the run with 128 + n and removes the half-made cluster."""
    run = tmp_path / "run"
    before = host_state(Settings())
    words = ["run", "--provider", "local", "--run-dir", str(run)]
    code = _stopped(signum, words, tmp_path / "log", lambda text: "etcd" in text.partition("stage deploy\n")[2])
    assert code == 128 + signum
    _check(run, "deploy", code)
    name = pipeline.own_cluster(io.load(run / "run.json", RunRecord))
    assert_nothing_left(Settings().state_dir / "clusters" / name)
    assert host_state(Settings()) == before


def test_a_stop_in_mid_scenario_keeps_the_results_and_can_be_gone_on_with(tmp_path, kit, kept_cluster):
    """SIGTERM in stage test: 143, the step that was running is in the results; what the report recommends works.

    Also when that is stopped itself, in the middle of collecting from the cluster, which stays.
    """
    scenario = tmp_path / "slow.yaml"
    scenario.write_text(SLOW)
    run = tmp_path / "run"
    words = ["run", "--provider", "local", "--cluster", kept_cluster, "--run-dir", str(run)]
    words += ["--scenarios", str(scenario)]
    assert _stopped(signal.SIGTERM, words, tmp_path / "log", lambda text: "nobody makes" in text) == 143
    _check(run, "test", 143)
    saved = (run / "k8s-e2e-results.json").read_bytes()
    step = json.loads(saved)["scenarios"][0]["steps"][0]
    assert "stopped by a signal" in step["message"]
    assert json.loads(saved)["scenarios"][0]["status"] == "failed"

    assert _stopped_within("collect", signal.SIGINT, run, tmp_path) == 130
    _check(run, "collect", 130)
    assert not (run / "manifest.json").exists()
    assert not recorder.alive(RunDir(run), Settings())

    command = re.search(r"\*\*Next\*\*: `\S+ (.*?)`", (run / "REPORT.md").read_text())
    assert command is not None
    assert command[1] == f"run --from collect --run-dir {run}"
    done = kit(*shlex.split(command[1]))
    assert done.returncode == 143, done.stderr  # it is still the run that was stopped in stage test
    assert manifest.verify(RunDir(run)) == []
    assert "minimal: true" not in (run / "REPORT.md").read_text()
    assert (run / "k8s-e2e-results.json").read_bytes() == saved


@pytest.mark.parametrize(("stage", "signum"), [("trace-analysis", signal.SIGTERM), ("report", signal.SIGINT)])
def test_a_stop_in_a_later_stage_keeps_what_was_collected(tmp_path, main_job, stage, signum):
    """A signal in trace-analysis or report ends with 128 + n and loses nothing that was there."""
    run = tmp_path / "run"
    shutil.copytree(main_job.path, run)
    code = _stopped_within(stage, signum, run, tmp_path)
    assert code == 128 + signum
    _check(run, stage, code)
    for name in ("k8s-e2e-results.json", "manifest.json", "k8s/events.jsonl"):
        assert (run / name).read_bytes() == (main_job.path / name).read_bytes()
