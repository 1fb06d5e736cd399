"""Whole runs through the launcher's command, as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
KIT = Path(sys.executable).parent / "k8s-e2e"


class Ran(NamedTuple):
    """A finished run: its exit code, its directory, what it printed."""

    code: int
    path: Path
    output: str

    def json(self, name: str) -> Any:
        """Return one JSON file of the run directory."""
        return json.loads((self.path / name).read_text())

    @property
    def first_screen(self) -> str:
        """The first 40 lines of REPORT.md."""
        return "\n".join((self.path / "REPORT.md").read_text().splitlines()[:40])


@pytest.fixture(scope="session")
def kit():
    """Return a function that runs the k8s-e2e command to its end."""

    def run(*words: str | Path, timeout_s: float = 1500) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KIT), *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def main_job(kit, tmp_path_factory):
    """One full `k8s-e2e run`, from nothing to REPORT.md."""
    path = tmp_path_factory.mktemp("main-job") / "run"
    done = kit("run", "--provider", "local", "--run-dir", path)
    return Ran(done.returncode, path, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def kept_cluster(kit):
    """A cluster that several runs use one after the other."""
    name = f"mainjob-{os.getpid()}"
    done = kit("up", name, "--provider", "local")
    assert done.returncode == 0, done.stderr
    yield name
    kit("down", name, "--provider", "local")
