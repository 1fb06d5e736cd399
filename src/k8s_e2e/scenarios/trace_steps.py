"""Steps that wait for the trace of an earlier request, and say what it lacks."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from k8s_e2e.base.errors import ExpectationError
from k8s_e2e.scenarios import matching, waiting
from k8s_e2e.scenarios.model import TraceStep
from k8s_e2e.scenarios.world import Outcome, World
from k8s_e2e.traces.jaeger import fetch_trace

POLL_S = 0.25


class Seen(NamedTuple):
    """What one trace shows: spans per service, spans that are errors, spans whose parent nobody reported."""

    services: dict[str, int]
    errors: list[str]
    orphans: list[str]

    @property
    def spans(self) -> int:
        """How many spans there are."""
        return sum(self.services.values())


def run_trace(step: TraceStep, world: World) -> Outcome:
    """Look at the trace until it is complete, twice in a row with equally many spans."""
    wanted = step.trace
    if wanted.of not in world.sent:
        return Outcome(passed=False, message=f"step {wanted.of!r} has sent no request whose trace could be looked at")
    trace_id, span_id = world.sent[wanted.of]
    asked_s = step.timeout if step.timeout is not None else wanted.timeout
    timeout_s = world.within(asked_s, world.context.settings.gate_timeout_s)
    before = -1
    last = Seen({}, [], [])

    def look() -> waiting.Look:
        nonlocal before, last
        try:
            trace = fetch_trace(world.context.requester, world.context.profile, trace_id)
        except ExpectationError as error:
            return waiting.Look(right=False, state=error.message)
        last = summarize(trace or {}, span_id)
        problems = _problems(step, last)
        grown, before = last.spans != before, last.spans
        if problems:
            return waiting.Look(right=False, state="; ".join(problems))
        state = f"{last.spans} spans of {', '.join(sorted(last.services))}"
        return waiting.Look(right=not grown, state=state if not grown else f"{state}, still growing")

    ended = waiting.wait(
        look,
        timeout_s=timeout_s,
        pause=lambda longest_s: time.sleep(min(longest_s, POLL_S)),
        interval_s=POLL_S,
        progress=lambda state: world.progress(f"{world.step_id}: {state}"),
    )
    expected = wanted.model_dump(exclude_unset=True, exclude={"of", "timeout"}) | {"orphans": []}
    actual = {"services": sorted(last.services), "errors": len(last.errors), "orphans": last.orphans}
    outcome = Outcome(
        passed=ended.right,
        message=ended.last.state,
        expected=expected,
        actual=actual,
        last_seen=ended.last.state,
        looks=ended.looks,
        trace_ids=[trace_id],
    )
    if not ended.right:
        outcome.message = (
            f"waited {timeout_s:g} s for the trace {trace_id} of step {wanted.of!r}; last seen: {ended.last.state}"
        )
        sorted_expected = {**expected, "services": sorted(wanted.services)}
        outcome.diff = matching.diff(sorted_expected, actual, title=f"trace {trace_id}")
    return outcome


def summarize(trace: Mapping[str, Any], sent_span_id: str) -> Seen:
    """Read a trace in Jaeger's form; ``sent_span_id`` is the kit's own request, a parent that nobody reports."""
    processes = trace.get("processes") or {}
    spans = {span["spanID"]: span for span in trace.get("spans") or []}
    services: Counter[str] = Counter()
    errors, orphans = [], []
    for span in spans.values():
        service = (span.get("process") or processes.get(span.get("processID")) or {}).get("serviceName", "unknown")
        label = f"{service}: {span.get('operationName', '')}"
        services[service] += 1
        if _is_error(span):
            errors.append(label)
        parent = next(
            (ref["spanID"] for ref in span.get("references") or [] if ref.get("refType", "CHILD_OF") == "CHILD_OF"), ""
        )
        if parent and parent not in spans and parent != sent_span_id:
            orphans.append(label)
    return Seen(dict(services), sorted(errors), sorted(orphans))


def _problems(step: TraceStep, seen: Seen) -> list[str]:
    wanted = step.trace
    if not seen.spans:
        return ["no span of it has arrived"]
    problems = []
    missing = [service for service in wanted.services if service not in seen.services]
    if missing:
        problems.append(f"no span of {', '.join(missing)} (there are {', '.join(sorted(seen.services))})")
    if seen.orphans:
        problems.append(f"{len(seen.orphans)} spans without their parent: {', '.join(seen.orphans[:3])}")
    if wanted.errors is not None and len(seen.errors) != wanted.errors:
        named = f": {', '.join(seen.errors[:3])}" if seen.errors else ""
        problems.append(f"{len(seen.errors)} spans are errors, expected {wanted.errors}{named}")
    return problems


def _is_error(span: Mapping[str, Any]) -> bool:
    tags = {tag.get("key"): tag.get("value") for tag in span.get("tags") or []}
    return tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR"
