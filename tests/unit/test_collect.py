"""Collecting again: what was sealed stays, unless something is left to collect."""

import fcntl

import pytest
from click.testing import CliRunner

from k8s_e2e.base import clock, files
from k8s_e2e.cli import cli
from k8s_e2e.evidence import manifest, recorder
from k8s_e2e.model.evidence import Part
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import Settings
from k8s_e2e.stages.collect import complete_seal


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings with a state directory of the test's own."""
    monkeypatch.setenv("K8S_E2E_STATE_DIR", str(tmp_path / "state"))
    return Settings()


@pytest.fixture
def run(tmp_path):
    """A run that was tested, and collected without loss."""
    run = RunDir.claim(tmp_path / "run")
    record = RunRecord(run_id="run-1", provider="local", cluster="nosuch")
    for name in ("deploy", "test", "collect"):
        record.put(StageOutcome(name=name, status="passed", started=clock.now(), duration_s=1.0))
    files.write_json(run.run_json, record)
    files.write(run.path("k8s/events.txt"), "an event\n")
    manifest.seal(
        run,
        [Part(name="events", status="ok", duration_s=0.1), Part(name="nodes", status="denied", duration_s=0.1)],
        "run-1",
    )
    return run


def test_a_complete_seal_stays(run, settings):
    """`stage collect` again changes no file of a run whose every part was collected, or was denied."""
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    done = CliRunner().invoke(cli, ["stage", "collect", "--run-dir", str(run.root)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "everything was collected by 20" in done.output
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before


def test_without_a_seal_there_is_all_to_collect(run, settings):
    """A run that was stopped before its seal is collected."""
    run.manifest.unlink()
    assert complete_seal(run, settings) is None


def test_what_failed_is_collected_again(run, settings):
    """A part that failed may succeed now."""
    manifest.seal(run, [Part(name="events", status="failed", duration_s=0.1, error="timed out")], "run-1")
    assert complete_seal(run, settings) is None


@pytest.mark.parametrize("stage", ["deploy", "test"])
def test_what_ran_since_is_collected(run, settings, stage):
    """A deploy or test that began after the seal has left something new."""
    record = RunRecord(run_id="run-1")
    record.put(StageOutcome(name=stage, status="failed", started=clock.now(), duration_s=1.0))
    files.write_json(run.run_json, record)
    assert complete_seal(run, settings) is None


def test_a_run_that_is_being_recorded_is_collected(run, settings):
    """While its recorder lives, a run goes on, whatever run.json says."""
    state = recorder.place(run, settings)
    state.mkdir(parents=True)
    with (state / "alive").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert complete_seal(run, settings) is None
    assert complete_seal(run, settings) is not None
