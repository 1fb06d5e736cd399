"""Whole runs through the launcher's command, as a user starts them."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.mainjob.runs import KIT, ROOT, Ran


@pytest.fixture(scope="session")
def kit():
    """Return a function that runs the k8s-e2e command to its end."""

    def run(*words: str | Path, timeout_s: float = 3000) -> subprocess.CompletedProcess[str]:
        command = [str(KIT), *map(str, words)]
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = child.communicate(timeout=timeout_s)
        except BaseException:
            child.terminate()  # not killed: the run removes its own cluster
            child.communicate(timeout=120)
            raise
        return subprocess.CompletedProcess(command, child.returncode, out, err)

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
