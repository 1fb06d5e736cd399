"""Ctrl-C and SIGTERM in each stage: outputs saved, nothing left behind, the right exit code."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from k8s_e2e import pipeline
from k8s_e2e.model import io
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


def _stopped_in(stage: str, signum: int, words: list[str], log: Path, *, also: str = "") -> int:
    """Start a run, signal it once ``stage`` (and then a line with ``also``) shows, and return its exit code."""
    with log.open("w") as sink:
        child = subprocess.Popen(
            [str(KIT), *words], cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            text = log.read_text()
            at = text.find(f"stage {stage}\n")
            if at >= 0 and also in text[at:]:
                break
            assert child.poll() is None, f"ended before stage {stage}: {text[-2000:]}"
            assert time.monotonic() < deadline, f"stage {stage} never came: {text[-2000:]}"
            time.sleep(0.05)
        time.sleep(0.7)  # into the stage's own work
        child.send_signal(signum)
        return child.wait(timeout=90)
    finally:
        if child.poll() is None:
            child.terminate()  # not killed: the run removes its own cluster
            child.wait(120)


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
    code = _stopped_in("deploy", signum, words, tmp_path / "log", also="etcd")
    assert code == 128 + signum
    _check(run, "deploy", code)
    name = pipeline.own_cluster(io.load(run / "run.json", RunRecord))
    assert_nothing_left(Settings().state_dir / "clusters" / name)
    assert host_state(Settings()) == before


def test_a_stop_in_mid_scenario_keeps_the_results(tmp_path, kit, kept_cluster):
    """SIGTERM in stage test ends the run with 143; the step that was running is in the results."""
    scenario = tmp_path / "slow.yaml"
    scenario.write_text(SLOW)
    run = tmp_path / "run"
    words = ["run", "--provider", "local", "--cluster", kept_cluster, "--run-dir", str(run)]
    words += ["--scenarios", str(scenario)]
    assert _stopped_in("test", signal.SIGTERM, words, tmp_path / "log", also="nobody makes") == 143
    _check(run, "test", 143)
    results = json.loads((run / "k8s-e2e-results.json").read_text())
    assert results["scenarios"][0]["status"] == "failed"
    assert "stopped by a signal" in results["scenarios"][0]["steps"][0]["message"]


@pytest.mark.parametrize(
    ("stage", "signum"), [("collect", signal.SIGINT), ("trace-analysis", signal.SIGTERM), ("report", signal.SIGINT)]
)
def test_a_stop_in_a_later_stage_keeps_what_was_collected(tmp_path, main_job, stage, signum):
    """A signal in collect, trace-analysis or report ends with 128 + n and loses nothing that was there."""
    run = tmp_path / "run"
    shutil.copytree(main_job.path, run)
    code = _stopped_in(stage, signum, ["run", "--from", stage, "--run-dir", str(run)], tmp_path / "log")
    assert code == 128 + signum
    _check(run, stage, code)
    for name in ("k8s-e2e-results.json", "manifest.json", "k8s/events.jsonl"):
        assert (run / name).read_bytes() == (main_job.path / name).read_bytes()
