"""The steps of the GitHub workflow, as they stand in it, on a local cluster: also for a job that is cancelled."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mainjob.runs import KIT, ROOT, Ran

FORMS = ("ipynb", "md", "html")

pytestmark = [pytest.mark.mainjob, pytest.mark.timeout(3600)]


class Job:
    """The commands of the workflow's steps; only launcher and provider are this machine's, not the runner's."""

    def __init__(self, folder: Path, cluster: str) -> None:
        read: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "k8s-e2e.yml").read_text())
        self.commands = [step["run"] for step in read["jobs"]["k8s-e2e"]["steps"] if "./e2e" in step.get("run", "")]
        self.run_dir = folder / "ci-report"
        self.summary = folder / "summary.md"
        self._folder = folder
        self._env = {
            **os.environ,
            "NO_COLOR": "1",
            "CLUSTER": cluster,
            "ARTIFACT": "k8s-e2e-1-1",
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }
        shutil.copy(ROOT / "k8s-e2e.toml", folder)
        for name in ("infra", "scenarios", "operator", "services"):
            (folder / name).symlink_to(ROOT / name)

    def start(self, words: str) -> subprocess.Popen[str]:
        """Start the step that runs ``words``, in the shell that GitHub uses."""
        command = next(one for one in self.commands if f"./e2e {words}" in one)
        script = self._folder / "step.sh"
        script.write_text(command.replace("./e2e", str(KIT)).replace("--provider kind", "--provider local"))
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.Popen(
            shell, cwd=self._folder, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def step(self, words: str) -> str:
        """Run a step to its end; return what it printed."""
        with self.start(words) as child:
            try:
                printed, _ = child.communicate(timeout=600)
            finally:
                child.terminate()
        assert child.returncode == 0, printed
        return printed


def cancelled(child: subprocess.Popen[str], in_the_middle_of: str) -> int:
    """Signal the step's first process, as GitHub does, once it says ``in_the_middle_of``; return its exit code."""
    assert child.stdout
    sent = None
    for line in child.stdout:
        if in_the_middle_of in line and sent is None:
            child.send_signal(signal.SIGINT)
            sent = time.monotonic()
    code = child.wait(60)
    assert sent is not None, "the run ended before"
    assert time.monotonic() - sent < 10  # then GitHub kills
    return code


def test_a_cancelled_job_still_has_a_whole_report(tmp_path, kept_cluster):
    """Images first, then a run that is cancelled in mid-scenario: the steps that follow always collect and report."""
    job = Job(tmp_path, kept_cluster)
    assert "turbo-engine/registry:e2e" in job.step("images --logs")
    job.step("images --provider")
    with job.start("run") as child:
        try:
            assert cancelled(child, "users-products/09") == 130
        finally:
            child.terminate()
    for words in ("stage collect", "stage trace-analysis", "stage report"):
        assert "passed in" in job.step(words)
    published = job.step("publish")
    run = Ran(130, job.run_dir, published)
    assert "INTERRUPTED" in run.first_screen
    assert "minimal: true" not in run.first_screen
    failed = {part["name"] for part in run.json("manifest.json")["parts"] if part["status"] == "failed"}
    assert failed <= {"recorder"}  # it was stopped with the run
    assert {row["source"] for row in run.json("run.json")["images"]} == {"cached"}  # what the steps before have made
    assert run.json("traces.json")["data"]
    assert "INTERRUPTED" in job.summary.read_text()


def test_after_a_finished_run_the_same_steps_change_nothing(tmp_path, main_job):
    """Everything sealed and everything derived is byte for byte what it was, and the time of collecting, too."""
    job = Job(tmp_path, "gone")
    shutil.copytree(main_job.path, job.run_dir)
    before = Ran(0, job.run_dir, "")
    collected = next(stage for stage in before.json("run.json")["stages"] if stage["name"] == "collect")
    assert "stays as it is" in job.step("stage collect")
    job.step("stage trace-analysis")
    job.step("stage report")
    assert collected in before.json("run.json")["stages"]
    later = {"run.json"} | {f"notebooks/{name}.{form}" for name in ("trace-analysis", "report") for form in FORMS}
    changed = {
        str(path.relative_to(main_job.path))
        for path in main_job.path.rglob("*")
        if path.is_file() and path.read_bytes() != (job.run_dir / path.relative_to(main_job.path)).read_bytes()
    }
    assert changed <= later
