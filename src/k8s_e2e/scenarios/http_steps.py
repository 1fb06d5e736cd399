"""Steps that send one request, and how a reply is judged."""

import json
from typing import Any, NamedTuple

from k8s_e2e.base.text import one_line
from k8s_e2e.platform.http import Reply, Unanswered
from k8s_e2e.scenarios import matching
from k8s_e2e.scenarios.model import HttpExpect, HttpRequest, HttpStep
from k8s_e2e.scenarios.values import holds, search
from k8s_e2e.scenarios.world import Outcome, World

_SHOWN = 600  # characters of a reply that is not as expected


class Verdict(NamedTuple):
    """Whether a reply is as expected; ``message`` is one line, ``expected`` and ``actual`` can be laid side by side."""

    right: bool
    message: str
    expected: Any
    actual: Any


def run_http(step: HttpStep, world: World) -> Outcome:
    """Send the request and judge the reply."""
    timeout_s = world.within(step.timeout, world.context.settings.request_timeout_s)
    try:
        reply = send(step.http, world, timeout_s=timeout_s)
    except Unanswered as error:
        trace_id = world.remember(error.record.traceparent)
        return Outcome(passed=False, message=error.message, trace_ids=[trace_id], waited=True)
    verdict = judge(step.expect, reply)
    body = reply.body.decode("utf-8", "replace")
    outcome = Outcome(
        passed=verdict.right,
        message=verdict.message,
        expected=verdict.expected,
        actual=verdict.actual,
        diff="" if verdict.right else matching.diff(verdict.expected, verdict.actual, title="reply"),
        last_seen=said(reply),
        trace_ids=[reply.trace_id],
        text=body,
    )
    if verdict.right:
        capture(step.capture, value_of(reply), outcome, what="the reply")
    return outcome


def send(request: HttpRequest, world: World, *, timeout_s: float, trace: bool = True) -> Reply:
    """Send a request of a scenario.

    Raises:
        Unanswered: no answer, or half of one.
    """
    reply = world.context.requester.send(
        request.service,
        request.method,
        request.path,
        step=world.step_id,
        json=request.json_,
        body=None if request.body is None else request.body.encode(),
        headers=dict(request.headers) or None,
        timeout_s=timeout_s,
        trace=trace,
    )
    if trace:
        world.remember(reply.traceparent)
    return reply


def judge(expect: HttpExpect, reply: Reply) -> Verdict:
    """Compare a reply with what is expected of it."""
    statuses = expect.status if isinstance(expect.status, list) else [expect.status]
    status_right = reply.status in statuses if expect.status is not None else 200 <= reply.status < 300  # noqa: PLR2004
    expected: dict[str, Any] = {"status": expect.status if expect.status is not None else "2xx"}
    actual: dict[str, Any] = {"status": expected["status"] if status_right else reply.status}
    problems = [] if status_right else [f"status is {reply.status}, expected {_alternatives(expected['status'])}"]
    value = value_of(reply)
    if expect.json_ is not None:
        found = matching.differences(expect.json_, value)
        problems += [matching.summary(found)] if found else []
        expected["json"], actual["json"] = expect.json_, matching.part(expect.json_, value)
    if expect.where is not None and not holds(expect.where, value):
        problems.append(f"not so: {expect.where}")
        expected["where"] = expect.where
    if expect.body is not None:
        text = reply.body.decode("utf-8", "replace")
        if expect.body not in text:
            problems.append(f"the body does not contain {expect.body!r}")
            expected["body"], actual["body"] = expect.body, one_line(text, _SHOWN)
    for name, wanted in expect.headers.items():
        if reply.headers.get(name.lower()) != wanted:
            problems.append(f"header {name} is {reply.headers.get(name.lower())!r}, expected {wanted!r}")
            expected[name], actual[name] = wanted, reply.headers.get(name.lower())
    if not problems:
        return Verdict(right=True, message=str(reply.status), expected=expected, actual=actual)
    if not status_right:
        actual["body"] = one_line(reply.body.decode("utf-8", "replace"), _SHOWN)
    message = f"{'; '.join(problems)}; the reply was {said(reply)}"
    return Verdict(right=False, message=message, expected=expected, actual=actual)


def value_of(reply: Reply) -> Any:
    """Return a reply's JSON; None if it has none."""
    try:
        return reply.json()
    except ValueError:
        return None


def said(reply: Reply, limit: int = 300) -> str:
    """Return a reply in one line: status and the beginning of its body."""
    return f"{reply.status} {one_line(reply.body.decode('utf-8', 'replace'), limit)}".strip()


def capture(expressions: dict[str, str], value: Any, outcome: Outcome, *, what: str, public: Any = None) -> None:
    """Put what the expressions find into ``outcome``; one that finds nothing fails the step.

    ``public`` is what may be shown of ``value``, where that is not all.
    """
    if public is None:
        public = value
    for name, expression in expressions.items():
        try:
            found = search(expression, value)
        except ValueError as error:
            outcome.passed, outcome.message = False, f"capture {name}: {error}"
            return
        if found is None:
            outcome.passed = False
            outcome.message = f"capture {name}: {expression} finds nothing in {what}: {shown(public)}"
            return
        outcome.captured[name] = found
        if public is not value:
            outcome.covered[name] = search(expression, public)


def shown(value: Any) -> str:
    """Return a JSON value on one line."""
    return one_line(json.dumps(value, ensure_ascii=False, default=str), 300)


def _alternatives(status: Any) -> str:
    return " or ".join(map(str, status)) if isinstance(status, list) else str(status)
