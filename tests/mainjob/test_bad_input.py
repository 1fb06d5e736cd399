"""Bad input: one clear line, the right exit code, nothing started and nothing left."""

import subprocess
from pathlib import Path

import pytest

from tests.mainjob.runs import patched_profile

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(3600)]


def _refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def _scenario(folder: Path, text: str) -> Path:
    path = folder / "bad.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\ncolour: red\nsteps: []\n", ["colour", "bad.yaml:2"]),
        ("name: x\nsteps:\n  - name: y\n    dance: {}\n", ["dance", "bad.yaml:"]),
        ("name: [\n", ["bad.yaml", "not YAML"]),
    ],
    ids=["unknown key", "unknown step kind", "not YAML"],
)
def test_a_wrong_scenario_stops_the_run_before_it_starts(kit, tmp_path, text, words):
    """A wrong scenario exits 2 with file and line, before a run directory or cluster is made."""
    run = tmp_path / "run"
    done = kit("run", "--run-dir", run, "--scenarios", _scenario(tmp_path, text))
    _refused(done, 2, *words)
    assert not run.exists()


def test_an_unknown_stage_and_parameter_are_refused(kit, tmp_path):
    """An unknown stage or parameter exits 2 and names the known ones."""
    _refused(kit("stage", "deplooy", "--run-dir", tmp_path / "run"), 2, "deplooy", "trace-analysis")
    _refused(kit("stage", "deploy", "--run-dir", tmp_path / "run", "--set", "speed=9"), 2, "speed", "provider")
    _refused(kit("run", "--from", "lunch", "--run-dir", tmp_path / "run"), 2, "lunch", "deploy")
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_not_ours_is_left_alone(kit, tmp_path):
    """A run directory that holds something else exits 2 and is not touched."""
    (tmp_path / "thesis.tex").write_text("x")
    _refused(kit("run", "--run-dir", tmp_path), 2, "no run directory of ours")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_finished_run_is_not_overwritten(kit, tmp_path):
    """A run directory that holds a run already exits 2."""
    (tmp_path / "run.json").write_text("{}")
    _refused(kit("run", "--run-dir", tmp_path), 2, "holds a run already")


def test_an_image_build_that_fails_is_exit_code_3(kit, kept_cluster, tmp_path):
    """A Dockerfile that fails ends the run with 3, the build's last words and the path of its log."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM $BASE_IMAGE\nRUN echo the build says no && false\n")
    profile = patched_profile(tmp_path, "apiVersion: v1\nkind: Service\nmetadata: {name: registry}\n")
    text = profile.read_text()
    profile.write_text(text + '\n[[images]]\ncontext = "broken"\ntags = { "turbo-engine/broken:e2e" = {} }\n')
    run = tmp_path / "run"
    done = kit("run", "--provider", "local", "--cluster", kept_cluster, "--profile", profile, "--run-dir", run)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the build says no" in (run / "logs" / "build-broken.txt").read_text()
    assert "broken" in (run / "REPORT.md").read_text()[:3000]


def test_a_full_disk_is_one_clear_line(kit, kept_cluster, tmp_path):
    """A file system without room ends the run with 3 and one line that says so."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        done = kit("run", "--provider", "local", "--cluster", kept_cluster, "--run-dir", small / "run")
        _refused(done, 3, "no space left")
    finally:
        subprocess.run(["umount", small], check=True)
