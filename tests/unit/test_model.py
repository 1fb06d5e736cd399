"""Models and settings: bad input is told in one line that names where and what."""

import os
from pathlib import Path

import pytest

from k8s_e2e.base import files
from k8s_e2e.base.data import data_dir
from k8s_e2e.base.errors import UsageError
from k8s_e2e.model import io
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.profile import load_profile
from k8s_e2e.model.run import RunRecord, StageOutcome
from k8s_e2e.model.settings import load_settings


def test_a_directory_that_is_not_ours_is_refused(tmp_path):
    """A run never writes into a directory that holds something else."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is no run directory of ours"):
        RunDir.claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_new_empty_and_own_directories_are_taken(tmp_path):
    """A run directory may be new, empty or a run already."""
    RunDir.claim(tmp_path / "new" / "deep")
    (tmp_path / "run.json").write_text("{}")
    assert RunDir.claim(tmp_path).root == tmp_path


def test_a_newer_schema_is_one_clear_line(tmp_path):
    """A file of a newer kit is refused with both versions, not decoded by guess."""
    path = tmp_path / "run.json"
    files.write_json(path, {"schema_version": 9})
    with pytest.raises(UsageError, match="schema version 9, newer than this kit knows"):
        io.load(path, RunRecord)


def test_a_broken_file_names_itself(tmp_path):
    """A file that is not JSON is a usage error with its path."""
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(UsageError, match=r"run\.json is not a RunRecord file"):
        io.load(path, RunRecord)


def test_a_second_outcome_replaces_the_first_in_place():
    """A stage that runs again keeps its place in the order."""
    record = RunRecord()
    for name in ("deploy", "test"):
        record.put(StageOutcome(name=name, status="failed", started="", duration_s=1))
    record.put(StageOutcome(name="deploy", status="passed", started="", duration_s=2))
    assert [(stage.name, stage.status) for stage in record.stages] == [("deploy", "passed"), ("test", "failed")]


def test_the_shipped_profile_is_valid():
    """k8s-e2e.toml of this repository reads, and its paths exist."""
    profile = load_profile(data_dir() / "k8s-e2e.toml")
    assert (profile.root / profile.overlay / "kustomization.yaml").exists()
    assert all((profile.root / image.context / image.dockerfile).exists() for image in profile.images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ('name = "x"', "overlay: Field required"),
        ('name="x"\noverlay="o"\nnamespace="n"\ncolour="red"', "colour: Extra inputs are not permitted"),
        ('name="x"\noverlay="o"\nnamespace="n"\nscenario=["a"]', "did you mean scenarios"),
        ('name="x"\noverlay="o"\nnamespace="n"\nroot="/"', "root: it says where this file is"),
    ],
)
def test_a_wrong_profile_names_the_key(tmp_path, text, message):
    """A profile that is not TOML, lacks a key or has an unknown one is refused by name."""
    path = tmp_path / "k8s-e2e.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        load_profile(path)
    assert message in str(raised.value)


def test_a_profile_in_another_encoding_is_refused(tmp_path):
    """A profile that is not UTF-8 is a usage error with its path."""
    path = tmp_path / "k8s-e2e.toml"
    path.write_bytes('name = "caf\u00e9"'.encode("latin-1"))
    with pytest.raises(UsageError, match=r"k8s-e2e\.toml is not UTF-8"):
        load_profile(path)


def test_a_run_directory_that_cannot_be_made_is_a_usage_error():
    """What the system answers is told with the directory's name."""
    with pytest.raises(UsageError, match="--run-dir /dev/null/x: Not a directory"):
        RunDir.claim(Path("/dev/null/x"))


def test_a_run_directory_that_cannot_be_written_is_a_usage_error(tmp_path, monkeypatch):
    """A directory on a read-only file system, or of somebody else, is refused before anything is done."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="it cannot be written"):
        RunDir.claim(tmp_path)


def test_a_wrong_setting_names_its_variable(monkeypatch):
    """A value that is not of the setting's kind is refused by the variable's name; an empty one counts as unset."""
    monkeypatch.setenv("K8S_E2E_OFFLINE", "")
    monkeypatch.setenv("K8S_E2E_UP_TIMEOUT_S", "7")
    assert (load_settings().offline, load_settings().up_timeout_s) == (False, 7.0)
    monkeypatch.setenv("K8S_E2E_UP_TIMEOUT_S", "soon")
    with pytest.raises(UsageError, match=r"K8S_E2E_UP_TIMEOUT_S=soon: .* valid number"):
        load_settings()
