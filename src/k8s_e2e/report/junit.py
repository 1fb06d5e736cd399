"""The results as JUnit XML: one suite a scenario, one case a step, cleanup included."""

from junitparser import Error as CaseError
from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from k8s_e2e.base.text import lines, one_line
from k8s_e2e.diagnosis.verdict import Verdict, stuck_at, told
from k8s_e2e.model.results import Results, ScenarioResult, StepResult

_LINES_MOST = 200  # lines of one failure


def junit(results: Results, verdict: Verdict, *, run_id: str) -> bytes:
    """Return `junit.xml`. A run that failed before its first step has one suite, ``run``, with the stage's error."""
    xml = JUnitXml(one_line(run_id) or "k8s-e2e")
    for scenario in results.scenarios:
        xml.add_testsuite(_suite(scenario))
    failure = verdict.failure
    if verdict.word != "passed" and (failure is None or failure.step is None):
        suite, case = TestSuite("run"), TestCase(failure.where if failure else verdict.word, "run")
        case.result = [CaseError(message=one_line(verdict.reason), type_=verdict.word)]
        suite.add_testcase(case)
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    text = xml.tostring()  # type: ignore[no-untyped-call]
    return text if isinstance(text, bytes) else str(text).encode()


def _suite(scenario: ScenarioResult) -> TestSuite:
    suite = TestSuite(one_line(scenario.name))
    suite.timestamp = one_line(scenario.started)
    for step in [*scenario.steps, *scenario.cleanup]:
        suite.add_testcase(_case(scenario, step))
    return suite


def _case(scenario: ScenarioResult, step: StepResult) -> TestCase:
    case = TestCase(one_line(f"{step.id} {step.name}"), one_line(scenario.name), step.duration_s)
    if step.status == "failed":
        said = "\n".join(part for part in (told(step.message), step.last_seen, stuck_at(step), step.diff) if part)
        failure = Failure(message=one_line(told(step.message)), type_=step.kind)
        failure.text = "\n".join(lines(said, most=_LINES_MOST, width=2000))
        case.result = [failure]
    elif step.status == "skipped":
        case.result = [Skipped(message=one_line(step.message))]
    return case
