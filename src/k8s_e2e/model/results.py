"""`k8s-e2e-results.json` and `requests.jsonl`: what was tried, expected and seen."""

from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1

Status = Literal["passed", "failed", "skipped"]


class StepResult(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One step. ``id`` is ``scenario/NN`` (cleanup: ``scenario/cNN``); ``evidence`` holds ``file#Lnn`` or trace ids."""

    id: str
    name: str
    kind: str  # http, wait, assert, apply, delete, exec, screenshot, trace, script
    status: Status
    started: str
    duration_s: float
    message: str = ""  # one line: why it failed, was skipped, or what it found
    expected: Any = None
    actual: Any = None
    diff: str = ""  # readable expected/actual difference
    last_seen: str = ""  # the last state a wait or assert saw
    stuck_at: str = ""  # where publish -> ... -> route stopped
    hopeless: str = ""  # the state that ended a wait early
    attempts: int = 1
    trace_ids: list[str] = []
    evidence: list[str] = []
    source: str = ""  # scenario file and line


class ScenarioResult(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One scenario: its steps and its cleanup, in order."""

    name: str
    description: str = ""
    status: Status
    started: str
    duration_s: float
    steps: list[StepResult] = []
    cleanup: list[StepResult] = []
    captures: dict[str, Any] = {}
    source: str = ""


class Results(msgspec.Struct, omit_defaults=True, kw_only=True):
    """All scenarios of a run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str = ""
    started: str = ""
    duration_s: float = 0.0
    total: int = 0
    passed: int = 0
    failed: int = 0
    scenarios: list[ScenarioResult] = []

    def first_failure(self) -> tuple[ScenarioResult, StepResult] | None:
        """Return the first failed step (steps before cleanup) with its scenario, or None."""
        for scenario in self.scenarios:
            for step in [*scenario.steps, *scenario.cleanup]:
                if step.status == "failed":
                    return scenario, step
        return None


class RequestRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One request the kit sent. ``status`` is 0 when no answer came; ``step`` is a step id or a stage name."""

    time: str
    traceparent: str
    trace_id: str
    step: str
    service: str
    method: str
    url: str
    status: int = 0
    duration_s: float = 0.0
    attempts: int = 1  # times it was sent; only a GET whose connection broke is sent again
    error: str = ""


class Screenshot(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`screenshots/<name>.json`: what a picture shows, in words. ``text`` is the page's visible text, redacted."""

    schema_version: int = SCHEMA_VERSION
    url: str
    time: str
    step: str
    title: str = ""
    status: int = 0  # of the page itself
    trace_id: str = ""
    text: str = ""
    console_errors: list[str] = []
    redactions: int = 0
    width: int = 0
    height: int = 0
