"""The verdict comes from recorded outcomes and results, and from nothing else."""

import pytest

from k8s_e2e.diagnosis.verdict import verdict
from k8s_e2e.model.results import Results
from k8s_e2e.model.run import RunRecord, StageOutcome
from tests.unit import run_builder as made


def outcome(name: str, status: str, error: str = "") -> StageOutcome:
    """Return how a stage ended."""
    return StageOutcome(name, status, made.at(0), 1.0, error=error)


def of(*stages: StageOutcome, steps: str = "") -> tuple[str, str]:
    """Judge a run with these stages and one step per letter: p passed, f failed, s skipped."""
    words = {"p": "passed", "f": "failed", "s": "skipped"}
    results = Results(passed=steps.count("p"), failed=steps.count("f"), total=len(steps))
    if steps:
        rows = [made.step(number, number, 1, words[letter], message="no") for number, letter in enumerate(steps)]
        results.scenarios.append(
            made.ScenarioResult(name="users", status="passed", started=made.at(0), duration_s=1, steps=rows)
        )
    judged = verdict(RunRecord(stages=list(stages)), results)
    return judged.word, judged.reason


PASSED = (outcome("deploy", "passed"), outcome("test", "passed"))


def test_all_passed():
    """Stages and steps passed."""
    assert of(*PASSED, outcome("collect", "passed"), steps="ppp") == ("passed", "3 of 3 steps passed")


def test_the_report_stage_never_changes_the_verdict():
    """A report made again, whatever its own stage did, says the same."""
    assert of(*PASSED, outcome("report", "failed", "disk"), steps="p")[0] == "passed"


def test_a_failed_step_fails_the_run_whatever_the_stage_says():
    """A stage that calls itself passed cannot hide a failed step."""
    assert of(*PASSED, steps="pf") == ("failed", "step users/01 (step 1): no")


def test_a_failed_deploy_names_its_error():
    """Without results the reason is the deploy stage's own error line."""
    assert of(outcome("deploy", "failed", "registry: ErrImageNeverPull"), outcome("test", "skipped")) == (
        "failed",
        "stage deploy: registry: ErrImageNeverPull",
    )


def test_an_interrupted_test_stage():
    """A run that was stopped while nothing had failed yet is interrupted, not failed."""
    assert of(outcome("deploy", "passed"), outcome("test", "interrupted"), steps="ps")[0] == "interrupted"


def test_a_step_that_failed_before_the_interruption_decides():
    """The first failure decides: what failed stays failed though the rest was cut off."""
    assert of(outcome("deploy", "passed"), outcome("test", "interrupted"), steps="pf")[0] == "failed"


@pytest.mark.parametrize(
    "stages",
    [(), (outcome("deploy", "passed"),), (outcome("deploy", "passed"), outcome("test", "skipped"))],
    ids=["nothing", "no test", "test skipped"],
)
def test_a_run_that_never_came_to_its_scenarios_is_incomplete(stages):
    """Nothing is guessed from stages that have no outcome."""
    assert of(*stages)[0] == "incomplete"


def test_passed_without_results_is_incomplete():
    """A test stage that passed without one scenario proves nothing."""
    assert of(*PASSED) == ("incomplete", "stage test passed, but k8s-e2e-results.json holds no scenario")


def test_lost_evidence_after_passed_steps_is_incomplete():
    """A failing collect neither hides the steps nor passes."""
    assert of(*PASSED, outcome("collect", "failed", "no cluster"), steps="p") == (
        "incomplete",
        "all steps passed, but stage collect failed: no cluster",
    )
