"""Steps that wait for a reply or an object to become right."""

import time
from typing import Any

from k8s_e2e.base.text import one_line
from k8s_e2e.platform.http import Unanswered
from k8s_e2e.platform.kube import ApiError
from k8s_e2e.scenarios import http_steps, matching, waiting
from k8s_e2e.scenarios.model import WaitFor, WaitStep
from k8s_e2e.scenarios.outlook import Outlook
from k8s_e2e.scenarios.values import holds, search
from k8s_e2e.scenarios.watching import Alarm
from k8s_e2e.scenarios.world import Outcome, World

POLL_S = 0.2
LONGEST_REQUEST_S = 10.0


def run_wait(step: WaitStep, world: World) -> Outcome:
    """Look until it is right, twice in a row."""
    wanted = step.wait
    asked_s = step.timeout if step.timeout is not None else wanted.timeout
    timeout_s = world.within(asked_s, world.context.settings.step_timeout_s)
    outlook = Outlook(world.context.kube, world.context.namespace)
    trace_ids: list[str] = []

    def hopeless(_: waiting.Look) -> str:
        return outlook.of("", []) if step.fail_fast else ""

    def go(look: Any, pause: Any, interval_s: float) -> waiting.Wait:
        return waiting.wait(
            look,
            timeout_s=timeout_s,
            hold_s=step.hold,
            pause=pause,
            interval_s=interval_s,
            hopeless=hopeless,
            progress=lambda state: world.progress(f"{world.step_id}: {state}"),
        )

    if wanted.http is not None:
        replies = _Replies(step, world, trace_ids)
        ended = go(replies.look, time.sleep, POLL_S)
    else:
        objects = _Objects(step, world)
        with objects.alarm() as alarm:
            ended = go(objects.look, alarm.pause, waiting.ASK_HOPELESS_S)
    return _outcome(step, ended, trace_ids, timeout_s, world)


def _outcome(step: WaitStep, ended: waiting.Wait, trace_ids: list[str], timeout_s: float, world: World) -> Outcome:
    last = ended.last
    expected = (
        {"until": step.wait.until}
        if step.wait.until
        else (step.wait.expect or step.wait).model_dump(by_alias=True, exclude_unset=True)
    )
    outcome = Outcome(
        passed=ended.right,
        expected=expected,
        actual=last.state,
        last_seen=last.state,
        hopeless=last.hopeless,
        looks=ended.looks,
        trace_ids=trace_ids,
        waited=not ended.right,
    )
    if ended.right:
        outcome.message = last.state
        what = "the reply" if step.wait.http else "the object"
        public = world.shown(last.seen) if step.wait.object else None
        http_steps.capture(step.capture, last.seen, outcome, what=what, public=public)
        return outcome
    what = _what(step.wait)
    outcome.message = (
        f"hopeless after {ended.waited_s:.1f} s: {last.hopeless}; waited for {what}; last seen: {last.state}"
        if last.hopeless
        else f"waited {timeout_s:g} s for {what}; last seen: {last.state}"
    )
    outcome.diff = f"--- expected\n+++ last seen\n-{what}\n+{last.state}"
    return outcome


def _what(wanted: WaitFor) -> str:
    subject = (
        f"{wanted.http.method} {wanted.http.service}{wanted.http.path}"
        if wanted.http
        else f"{wanted.object.kind} {wanted.object.name}"
        if wanted.object
        else ""
    )
    condition = wanted.until or matching.shown(
        wanted.expect.model_dump(by_alias=True, exclude_unset=True) if wanted.expect else {}
    )
    return f"{condition} at {subject}"


def _condition(wanted: WaitFor, value: Any) -> tuple[bool, str]:
    """Return whether ``until`` holds, and why waiting is hopeless."""
    right = wanted.until is None or holds(wanted.until, value)
    lost = wanted.unless is not None and holds(wanted.unless, value)
    return right, str(wanted.unless) if lost and not right else ""


def _shown(wanted: WaitFor, value: Any) -> str:
    if wanted.show is None or value is None:
        return ""
    try:
        found = search(wanted.show, value)
    except ValueError:
        return ""
    words = found if isinstance(found, list) else [found]
    if all(word is None or isinstance(word, (str, int)) for word in words):
        return one_line(", ".join(str(word) for word in words if word is not None))
    return http_steps.shown(found)


class _Replies:
    """Looks at a reply. Polls are not traced, but the first and those that confirm are: they are evidence."""

    def __init__(self, step: WaitStep, world: World, trace_ids: list[str]) -> None:
        self._step = step
        self._world = world
        self._trace_ids = trace_ids
        self._trace = True

    def look(self) -> waiting.Look:
        wanted, request = self._step.wait, self._step.wait.http
        assert request
        traced, self._trace = self._trace, False
        limit_s = max(1.0, self._world.within(None, LONGEST_REQUEST_S))
        try:
            reply = http_steps.send(request, self._world, timeout_s=limit_s, trace=traced)
        except Unanswered as error:
            return waiting.Look(right=False, state=error.message)
        if traced:
            self._trace_ids.append(reply.trace_id)
        value = http_steps.value_of(reply)
        state = _shown(wanted, value)
        state = f"{reply.status} {state}" if state else http_steps.said(reply)
        right, lost = _condition(wanted, value)
        if wanted.expect is not None:
            verdict = http_steps.judge(wanted.expect, reply)
            right = right and verdict.right
        elif not 200 <= reply.status < 300:  # noqa: PLR2004
            right = False
        self._trace = right
        return waiting.Look(right=right, state=state, seen=value, hopeless=lost if self._step.fail_fast else "")


class _Objects:
    """Looks at one live object."""

    def __init__(self, step: WaitStep, world: World) -> None:
        assert step.wait.object
        self._step = step
        self._ref = step.wait.object
        self._world = world
        self._kube = world.context.kube
        self._namespace = self._ref.namespace or world.context.namespace

    def alarm(self) -> Alarm:
        """Ring when the object changes."""
        resource = self._kube.resource(self._ref.api_version, self._ref.kind)
        return Alarm(self._kube, resource, self._namespace, version="", name=self._ref.name)

    def look(self) -> waiting.Look:
        wanted = self._step.wait
        try:
            obj = self._kube.get(self._ref.api_version, self._ref.kind, self._ref.name, self._namespace)
        except ApiError as error:
            return waiting.Look(right=False, state=str(error))
        if obj is None:
            return waiting.Look(right=False, state=f"there is no {self._ref.kind} {self._ref.name}")
        right, lost = _condition(wanted, obj)
        public = self._world.shown(obj)
        state = _shown(wanted, public) or one_line(http_steps.shown(public.get("status") or public.get("data") or {}))
        return waiting.Look(right=right, state=state, seen=obj, hopeless=lost if self._step.fail_fast else "")
