"""The pipeline's own decisions: what goes on, what stays, what is refused; stages and clusters are stood in for."""

import signal
from pathlib import Path

import pytest

from k8s_e2e import pipeline
from k8s_e2e.base import files
from k8s_e2e.base.errors import EnvironmentFailure, Interrupted, UsageError
from k8s_e2e.base.progress import silent
from k8s_e2e.model import io
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import Settings
from k8s_e2e.notebooks.runner import StageResult

ROOT = Path(__file__).resolve().parents[2]


class Fakes:
    """Stands in for notebooks and provider; ``fail`` maps a stage to its exit code, or to 130 for a stop."""

    name = "local"
    loads = True

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.ran: list[str] = []
        self.values: dict[str, dict] = {}
        self.removed: list[str] = []
        self.down_fails = False
        self.down_is_cut = 0
        self.forgotten: list[bool] = []

    def run(self, name, values, run_dir, *, settings=None):
        self.ran.append(name)
        self.values[name] = values
        code = self.fail.get(name, 0)
        status = "interrupted" if code == 130 else "failed" if code else "passed"
        record = io.load(run_dir / "run.json", RunRecord)
        if name == "deploy":
            record.cluster, record.provider = values["cluster"], "local"
        outcome = StageOutcome(name=name, status=status, started="", duration_s=0, exit_code=code, error=status)
        record.put(outcome)
        files.write_json(run_dir / "run.json", record)
        return StageResult(outcome, run_dir / "x.ipynb")

    def attach(self, name):
        if name == "nosuch":
            raise EnvironmentFailure("there is no cluster nosuch")

    def stop_recorder(self, run_dir, settings, *, forget):
        assert not self.removed  # while it is recorded, a cluster is there
        self.forgotten.append(forget)

    def down(self, name, *, progress):
        if self.down_fails:
            raise EnvironmentFailure("a mount is left")
        if self.down_is_cut:
            signum, self.down_is_cut = self.down_is_cut, 0
            signal.raise_signal(signum)
        self.removed.append(name)


@pytest.fixture
def fakes(monkeypatch):
    """Stages that only say how they ended, and a provider that only notes what it removed."""
    fakes = Fakes()
    monkeypatch.setattr(pipeline.notebooks, "run", fakes.run)
    monkeypatch.setattr(pipeline, "get_provider", lambda *_: fakes)
    monkeypatch.setattr(pipeline.recorder, "stop", fakes.stop_recorder)
    return fakes


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the pipeline in a fresh or the same run directory."""

    def run(**options):
        request = pipeline.Request(run_dir=tmp_path / "run", profile=ROOT / "k8s-e2e.toml", **options)
        return pipeline.run(request, Settings(), silent)

    return run


def test_all_stages_run_and_the_own_cluster_goes(fakes, run):
    """A green run removes the cluster that it made."""
    record = run()
    assert fakes.ran == ["deploy", "test", "collect", "trace-analysis", "report"]
    assert record.exit_code == 0
    assert fakes.removed == [f"run-{record.run_id}"]


def test_nothing_is_recorded_after_collect(fakes, run):
    """The recorder ends before any report is made, also if stage collect broke; a kept cluster keeps its salt."""
    fakes.fail = {"collect": 5}
    run(keep_on_failure=True)
    assert fakes.forgotten == [False]
    run(first="collect")
    assert fakes.forgotten == [False, False]


def test_a_recorder_of_a_cluster_that_goes_is_forgotten(fakes, run):
    """Nothing of a run stays in the state directory once its cluster is gone."""
    run()
    assert fakes.forgotten == [True]


def test_what_always_runs_runs(fakes, run):
    """After a failed deploy, test is skipped and the rest runs; deploy decides the exit code."""
    fakes.fail = {"deploy": 3, "report": 1}
    record = run()
    assert fakes.ran == ["deploy", "collect", "trace-analysis", "report"]
    assert record.exit_code == 3
    skipped = record.stage("test")
    assert skipped is not None
    assert skipped.status == "skipped"


@pytest.mark.parametrize("options", [{"cluster": "dev"}, {"keep": True}])
def test_a_cluster_that_is_not_to_go_stays(fakes, run, options):
    """A named or kept cluster stays, also when the run is continued later without saying so again."""
    run(**options)
    run(first="collect")
    assert fakes.removed == []


def test_keep_on_failure_keeps_only_then(fakes, run):
    """With keep_on_failure a red run's cluster stays."""
    fakes.fail = {"test": 1}
    assert run(keep_on_failure=True).exit_code == 1
    assert fakes.removed == []


def test_a_stop_saves_and_tidies(fakes, run, tmp_path):
    """A stop removes the cluster, and leaves run.json with the stop's code and a minimal report."""
    fakes.fail = {"test": 130}
    with pytest.raises(Interrupted):
        run()
    record = io.load(tmp_path / "run" / "run.json", RunRecord)
    assert record.exit_code == 130
    assert "run --from trace-analysis --run-dir" in (tmp_path / "run" / "REPORT.md").read_text()
    assert fakes.removed == [f"run-{record.run_id}"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_cluster_is_removed_ends_the_run(fakes, run, tmp_path, signum):
    """A signal in mid-removal is a stop, not a removal that failed: no stage follows, and the cluster goes entirely."""
    fakes.down_is_cut = signum
    with pytest.raises(Interrupted):
        run()
    assert fakes.ran == ["deploy", "test", "collect"]
    record = io.load(tmp_path / "run" / "run.json", RunRecord)
    assert fakes.removed == [f"run-{record.run_id}"]
    assert record.exit_code == 128 + signum


def test_a_stop_between_a_stage_and_the_next_is_heard(fakes, run, monkeypatch):
    """A signal that a stage passes on when it has ended keeps the next one from starting."""
    ended = fakes.run

    def stopped_late(name, *values, **options):
        result = ended(name, *values, **options)
        if name == "test":
            signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(pipeline.notebooks, "run", stopped_late)
    with pytest.raises(Interrupted) as stopped:
        run()
    assert stopped.value.exit_code == 143
    assert fakes.ran == ["deploy", "test"]
    assert len(fakes.removed) == 1


@pytest.mark.parametrize("options", [{"keep": True}, {"keep_on_failure": True}, {"cluster": "dev"}])
def test_a_stopped_run_whose_cluster_stays_can_be_collected(fakes, run, tmp_path, options):
    """The report of a stopped run recommends to collect as long as there is a cluster."""
    fakes.fail = {"test": 130}
    with pytest.raises(Interrupted):
        run(**options)
    assert "run --from collect --run-dir" in (tmp_path / "run" / "REPORT.md").read_text()
    assert fakes.removed == []


def test_a_recorder_that_will_not_stop_does_not_keep_the_cluster(fakes, run, monkeypatch):
    """Each part of the tidying is tried, whatever became of the one before."""

    def stuck(*_, **__):
        raise EnvironmentFailure("the recorder did not end")

    monkeypatch.setattr(pipeline.recorder, "stop", stuck)
    fakes.fail = {"test": 130}
    with pytest.raises(Interrupted):
        run()
    assert len(fakes.removed) == 1


def test_a_cluster_that_cannot_be_removed_is_no_success(fakes, run):
    """When all stages pass but the cluster stays behind, the run ends with 3, its report written."""
    fakes.down_fails = True
    assert run().exit_code == 3
    assert fakes.ran[-1] == "report"


def test_going_on_from_test_needs_a_platform(fakes, run, tmp_path):
    """``--from test`` on a run without a deployed platform is refused, not passed over."""
    files.write_json(tmp_path / "run" / "run.json", RunRecord())
    with pytest.raises(UsageError, match="no deployed platform"):
        run(first="test")
    assert fakes.ran == []


def test_going_on_elsewhere_is_refused(fakes, run):
    """``--cluster`` with ``--from`` cannot move a run to another cluster."""
    run(keep=True)
    with pytest.raises(UsageError, match=r"the run in .* is on cluster"):
        run(first="collect", cluster="other")


def test_a_cluster_that_is_not_there_is_told_before_anything_starts(fakes, run, tmp_path):
    """``--cluster`` with a wrong name leaves no run directory."""
    with pytest.raises(EnvironmentFailure, match="no cluster nosuch"):
        run(cluster="nosuch")
    assert not (tmp_path / "run").exists()


def test_going_on_from_test_runs_what_the_run_was_begun_with(fakes, run):
    """``--from test`` repeats the run's own scenarios and counts the attempt."""
    path = str(ROOT / "scenarios" / "petstore.yaml")
    run(keep=True, scenarios=(path,))
    record = run(first="test")
    assert fakes.values["test"]["scenarios"] == [path]
    assert record.attempt == 2
