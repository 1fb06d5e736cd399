"""Run.open: tables on one clock for notebooks and people."""

import subprocess
import sys

import pytest

from k8s_e2e import Run
from k8s_e2e.base.errors import UsageError
from k8s_e2e.diagnosis import diagnose
from k8s_e2e.report.frames import COLUMNS
from tests.unit import run_builder as made


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run that failed, opened."""
    directory = made.red_image(tmp_path_factory.mktemp("runs") / "red").write()
    diagnose(directory)
    return Run.open(directory.root)


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_every_table_has_its_columns_and_one_clock(run, name):
    """Each table has rows and fixed columns, and every time in it is datetime64[us, UTC]."""
    table = getattr(run, name)
    assert list(table.columns) == list(COLUMNS[name])
    assert len(table) > 0
    for column, kind in COLUMNS[name].items():
        if kind:
            assert str(table[column].dtype) == kind


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_tables_of_an_empty_run_have_the_same_columns(tmp_path, name):
    """What is absent gives an empty table of the same types, and a blind spot."""
    (tmp_path / "run.json").write_text("{}")
    empty = Run.open(tmp_path)
    table = getattr(empty, name)
    assert list(table.columns) == list(COLUMNS[name])
    if name != "findings":
        assert len(table) == 0
    assert {str(table[column].dtype) for column, kind in COLUMNS[name].items() if kind} <= {*COLUMNS[name].values()}
    assert "k8s/history.jsonl" in empty.blind_spots


def test_tables_can_be_joined_in_time(run):
    """The events within the failing step's window are found by plain comparison."""
    failed = run.steps[run.steps.status == "failed"].iloc[0]
    within = run.events[(run.events.time >= failed.started) & (run.events.time <= failed.ended)]
    assert set(within.reason) == {"Failed", "BackOff"}
    assert run.spans.step.tolist() == ["users/01", "users/01"]
    assert run.pods.set_index("name").problem["deploy-users-8f-q2"] == "main waiting: ImagePullBackOff"


def test_logs_keep_their_pointer(run):
    """A log line knows its file and line."""
    line = run.logs[run.logs.pod == "registry-5c-x1"].iloc[0]
    assert (line.level, line.message) == ("info", "listening")
    assert line.evidence == "k8s/logs/registry-5c-x1/main.txt#L2"


def test_timeline_is_a_figure(run):
    """The picture has a row for the failing step, marked as failed in words and not by colour only."""
    figure = run.plot_timeline()
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "✗ users/02 deployment is available" in labels
    assert "✗ pods: deploy-users-8f-q2" in labels


def test_repr_says_how_it_ended(run):
    """The representation names directory and verdict."""
    assert "failed: step users/02" in repr(run)


def test_open_refuses_what_is_no_run(tmp_path):
    """A directory without run.json is refused by name."""
    with pytest.raises(UsageError, match=r"has no run\.json"):
        Run.open(tmp_path)


def test_latest_is_the_one_that_began_last(tmp_path):
    """The newest run is chosen by its own start, not by its name or file time."""
    for name, second in (("b", 5), ("a", 9)):
        builder = made.green(tmp_path / name)
        builder.record.started = made.at(second)
        builder.write()
    assert Run.latest(tmp_path).directory.root.name == "a"
    with pytest.raises(UsageError, match="no run below"):
        Run.latest(tmp_path / "none")


def test_importing_the_kit_is_cheap():
    """`import k8s_e2e` loads neither pandas nor any layer of the kit; an unknown name is an AttributeError."""
    code = "import sys, k8s_e2e; print([name for name in sys.modules if name.startswith(('pandas', 'k8s_e2e.'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'Walk'"):
        __import__("k8s_e2e").Walk  # noqa: B018
