"""Running scenarios: step after step, cleanup always, results on disk after every step."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import KitError
from k8s_e2e.base.progress import Progress
from k8s_e2e.model.results import Results, ScenarioResult, Status, StepResult
from k8s_e2e.platform.kube import ApiError
from k8s_e2e.scenarios import (
    checking,
    http_steps,
    object_steps,
    program_steps,
    references,
    screenshot_steps,
    stuck,
    trace_steps,
    wait_steps,
)
from k8s_e2e.scenarios.browser import Browser
from k8s_e2e.scenarios.evidence import RequestLines
from k8s_e2e.scenarios.loader import PlannedStep, Scenario
from k8s_e2e.scenarios.world import Context, Outcome, World

__all__ = ["Context", "run"]

CLEANUP_S = 120.0  # for all of a scenario's cleanup
INTERRUPTED_CLEANUP_S = 2.0  # the same, when somebody waits for us to stop, who gives us a second more than that

_RUN: dict[str, Callable[[Any, World], Outcome]] = {
    "http": http_steps.run_http,
    "wait": wait_steps.run_wait,
    "assert": object_steps.run_assert,
    "apply": object_steps.run_apply,
    "delete": object_steps.run_delete,
    "exec": program_steps.run_exec,
    "screenshot": screenshot_steps.run_screenshot,
    "trace": trace_steps.run_trace,
    "script": program_steps.run_script,
}

_SAID: dict[Status, str] = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}

log = logging.getLogger(__name__)


def run(scenarios: Sequence[Scenario], context: Context, progress: Progress) -> Results:
    """Run scenarios in order and return what came of them; `k8s-e2e-results.json` is written after every step.

    A failed step ends its scenario, not the run. Cleanup is always run, in order, a failed step of it notwithstanding.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; cleanup was attempted within `INTERRUPTED_CLEANUP_S`, all is saved.
        DiskFull: the results cannot be written.
    """
    results = Results(run_id=context.run_id, started=clock.now())
    engine = _Engine(context, results, progress)
    with _stoppable(), contextlib.closing(engine):
        engine.save()
        for scenario in scenarios:
            engine.run(scenario)
    return results


class _Engine:
    """One run of some scenarios."""

    def __init__(self, context: Context, results: Results, progress: Progress) -> None:
        self._context = context
        self._results = results
        self._redactor = context.cleaner.redactor
        self._progress: Progress = lambda text: progress(self._redactor.text(text))
        self._began = time.monotonic()
        self._browser = Browser()
        self._requests = RequestLines(context.run.requests)

    def close(self) -> None:
        self._browser.close()

    def save(self) -> None:
        """Count and write the results as they are."""
        results = self._results
        steps = [step for each in results.scenarios for step in [*each.steps, *each.cleanup]]
        results.total = len(steps)
        results.passed = sum(step.status == "passed" for step in steps)
        results.failed = sum(step.status == "failed" for step in steps)
        results.duration_s = round(time.monotonic() - self._began, 6)
        files.write_json(self._context.run.results, results)

    def run(self, scenario: Scenario) -> None:
        """Run one scenario with its cleanup."""
        began = time.monotonic()
        result = ScenarioResult(
            name=scenario.name,
            description=scenario.description,
            status="failed",
            started=clock.now(),
            duration_s=0.0,
            source=self._source(scenario.path),
        )
        self._results.scenarios.append(result)
        world = World(self._context, scenario.name, scenario.path.parent, self._redactor, self._browser, self._progress)
        for name, value in scenario.variables.items():
            world.names[name] = references.resolve(value, world.lookup)
        if any(step.kind == "screenshot" for step in scenario.steps):
            self._browser.start()
        ended = False
        try:
            self._steps(scenario, result, world)
            world.deadline = time.monotonic() + CLEANUP_S
            self._cleanup(scenario, result, world)
            ended = True
        except KeyboardInterrupt:
            self._progress(f"{scenario.name}: stopping; cleanup gets {INTERRUPTED_CLEANUP_S:g} s")
            world.deadline = time.monotonic() + INTERRUPTED_CLEANUP_S
            self._finish_cut_step(scenario, result)
            self._cleanup(scenario, result, world)
            raise
        finally:
            failed = any(step.status == "failed" for step in [*result.steps, *result.cleanup])
            result.status = "failed" if failed or not ended else "passed"
            result.duration_s = round(time.monotonic() - began, 6)
            result.captures = self._redacted({**world.names, **world.covered})
            self.save()

    def _steps(self, scenario: Scenario, result: ScenarioResult, world: World) -> None:
        broken = ""
        for number, step in enumerate(scenario.steps, 1):
            step_id = f"{scenario.name}/{number:02d}"
            if broken:
                result.steps.append(_skipped(step, step_id, f"not run: step {broken} failed", self._source(step.mark)))
                continue
            done = self._step(step, step_id, world)
            result.steps.append(done)
            result.duration_s = round(result.duration_s + done.duration_s, 6)
            self.save()
            self._tell(done)
            if done.status == "failed":
                broken = step_id
        self.save()

    def _cleanup(self, scenario: Scenario, result: ScenarioResult, world: World) -> None:
        world.cleaning = True
        for number, step in enumerate(scenario.cleanup, 1):
            step_id = f"{scenario.name}/c{number:02d}"
            if len(result.cleanup) >= number:
                continue  # done before the signal came
            if world.within(None, 1.0) <= 0:
                result.cleanup.append(_skipped(step, step_id, "not run: no time left", self._source(step.mark)))
                continue
            done = self._step(step, step_id, world)
            result.cleanup.append(done)
            self.save()
            self._tell(done)

    def _finish_cut_step(self, scenario: Scenario, result: ScenarioResult) -> None:
        """Name the steps that a signal cut short or prevented."""
        for number, step in enumerate(scenario.steps, 1):
            if len(result.steps) < number:
                step_id = f"{scenario.name}/{number:02d}"
                result.steps.append(
                    _skipped(step, step_id, "not run to its end: stopped by a signal", self._source(step.mark))
                )
        self.save()

    def _step(self, step: PlannedStep, step_id: str, world: World) -> StepResult:
        started, began = clock.now(), time.monotonic()
        world.step_id = step_id
        try:
            tree = references.resolve(step.tree, world.lookup)
            world.step_name = name = str(references.resolve(step.name, world.lookup))
        except references.Unknown as error:
            reason = f"not run: ${{{error.name}}} was never captured"
            return _skipped(step, step_id, reason, self._source(step.mark))
        self._progress(f"{step_id} {name}")
        outcome = self._outcome(step, tree, world)
        outcome = _turned(tree.get("expect_failure", ""), outcome)
        if outcome.passed:
            world.keep(outcome)
        where_stuck = "" if outcome.passed or not outcome.waited else _stuck_point(world)
        status: Status = "skipped" if outcome.skipped else "passed" if outcome.passed else "failed"
        result = StepResult(
            id=step_id,
            name=name,
            kind=step.kind,
            status=status,
            started=started,
            duration_s=round(time.monotonic() - began, 6),
            message=outcome.message + (f"; stuck at {where_stuck}" if where_stuck else ""),
            expected=outcome.expected,
            actual=outcome.actual,
            diff=outcome.diff,
            last_seen=outcome.last_seen,
            stuck_at=where_stuck,
            hopeless=outcome.hopeless,
            attempts=outcome.looks,
            trace_ids=outcome.trace_ids,
            evidence=[*outcome.evidence, *self._requests.of(step_id)],
            source=self._source(step.mark),
        )
        return self._redacted_result(result)

    def _tell(self, done: StepResult) -> None:
        """Say how a step ended; its result is on disk by then."""
        why = "" if done.status == "passed" else f": {done.message}"
        self._progress(f"{done.id} {done.name}: {_SAID[done.status]} in {done.duration_s:.1f} s{why}")

    def _outcome(self, step: PlannedStep, tree: Any, world: World) -> Outcome:
        try:
            model = checking.checked(step.model, tree, step.mark)
            return _RUN[step.kind](model, world)
        except KitError as error:
            if isinstance(error, files.DiskFull):
                raise
            return Outcome(passed=False, message=str(error), waited=isinstance(error, ApiError))
        except Exception as error:  # a defect in the engine fails this step, not the evidence of all others
            log.exception("step %s broke", world.step_id)
            return Outcome(passed=False, message=f"internal error: {type(error).__name__}: {error}")

    def _redacted_result(self, result: StepResult) -> StepResult:
        for name in ("name", "message", "expected", "actual", "diff", "last_seen", "stuck_at", "hopeless"):
            setattr(result, name, self._redacted(getattr(result, name)))
        return result

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redactor.text(value)
        if isinstance(value, dict):
            return {key: self._redacted(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._redacted(item) for item in value]
        return value

    def _source(self, place: Any) -> str:
        """Write a file (and line) relative to the project."""
        root = f"{self._context.profile.root}/"
        return str(place).removeprefix(root)


def _turned(expected_failure: str, outcome: Outcome) -> Outcome:
    """Make a pass of a failure that was expected, and a failure of a pass that was not."""
    if not expected_failure or outcome.skipped:
        return outcome
    if outcome.passed:
        outcome.passed = False
        outcome.message = f"it was not refused; a failure with {expected_failure!r} was expected ({outcome.message})"
    elif expected_failure in outcome.message or expected_failure in outcome.text:
        outcome.passed = True
        outcome.message = f"refused as expected: {outcome.message}"
        outcome.diff = ""
    else:
        outcome.message = f"failed, but not with {expected_failure!r}: {outcome.message}"
    return outcome


def _stuck_point(world: World) -> str:
    try:
        return stuck.stuck_point(world)
    except Exception:  # saying where it got stuck must never hide that it did
        log.exception("cannot say where step %s got stuck", world.step_id)
        return ""


def _skipped(step: PlannedStep, step_id: str, reason: str, source: str) -> StepResult:
    return StepResult(
        id=step_id,
        name=step.name,
        kind=step.kind,
        status="skipped",
        started=clock.now(),
        duration_s=0.0,
        message=reason,
        source=source,
    )


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C does, so that cleanup and results get their turn."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
