"""Steps that compare, apply and delete live Kubernetes objects."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from k8s_e2e.platform import ownership
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.scenarios import foreign, http_steps, matching, waiting
from k8s_e2e.scenarios.loader import labels
from k8s_e2e.scenarios.model import ApplyStep, AssertStep, DeleteStep, Pattern
from k8s_e2e.scenarios.outlook import Outlook
from k8s_e2e.scenarios.settled import unsettled
from k8s_e2e.scenarios.values import holds
from k8s_e2e.scenarios.watching import Alarm
from k8s_e2e.scenarios.world import Outcome, World, namespace_of

_FORBIDDEN = (401, 403)
_NEAREST_OF = 500  # objects of a kind that are searched for the nearest miss


def run_assert(step: AssertStep, world: World) -> Outcome:
    """Look at the objects until they are as asked, twice in a row."""
    timeout_s = world.within(step.timeout, world.context.settings.step_timeout_s)
    objects = _Objects(step, world)
    outlook = Outlook(world.context.kube, objects.namespace)

    def hopeless(_: waiting.Look) -> str:
        return outlook.of(step.assert_.kind, objects.found) if step.fail_fast and not step.absent else ""

    with ExitStack() as stack:
        alarm: list[Alarm] = []

        def pause(longest_s: float) -> None:
            if not alarm:  # made when first needed: most asserts are right at once
                made = objects.alarm()
                if made is None:
                    time.sleep(min(longest_s, 0.2))
                    return
                alarm.append(stack.enter_context(made))
            alarm[0].pause(longest_s)

        ended = waiting.wait(
            objects.look,
            timeout_s=timeout_s,
            hold_s=step.hold,
            pause=pause,
            hopeless=hopeless,
            progress=lambda state: world.progress(f"{world.step_id}: {state}"),
        )
    return objects.outcome(ended, timeout_s)


def run_apply(step: ApplyStep, world: World) -> Outcome:
    """Server-side apply the object; in somebody else's cluster only what the run may make, and remove."""
    obj = step.apply.model_dump(by_alias=True, exclude_unset=True)
    world.context.cleaner.learn(obj)
    name = f"{step.apply.kind} {step.apply.metadata.name}"
    try:
        if world.context.cluster.shared and (why := foreign.refusal(obj, world.context)):
            return Outcome(passed=False, message=f"{name} was not applied: {why}", text=why)
        (wanted,) = ownership.marked([obj], world.context.run_id)
        live = world.context.kube.apply(wanted, namespace=world.context.namespace)
    except ApiError as error:
        return Outcome(passed=False, message=f"{name} was refused: {error}", text=error.message)
    outcome = Outcome(passed=True, message=f"{name} is at generation {live['metadata'].get('generation', 1)}")
    http_steps.capture(step.capture, live, outcome, what="the object", public=world.shown(live))
    return outcome


def run_delete(step: DeleteStep, world: World) -> Outcome:
    """Delete every object that matches."""
    pattern, kube = step.delete, world.context.kube
    namespace = namespace_of(pattern.metadata.model_dump(), world)
    what = subject(pattern)
    try:
        found = _listed(kube, pattern, namespace)["items"]
        expected = pattern.model_dump(by_alias=True, exclude_unset=True)
        doomed = [obj for obj in found if not matching.differences(expected, obj)]
        gone = [
            obj["metadata"]["name"]
            for obj in doomed
            if kube.delete(
                pattern.api_version, pattern.kind, obj["metadata"]["name"], namespace, uid=obj["metadata"]["uid"]
            )
        ]
    except ApiError as error:
        return Outcome(passed=False, message=f"{what} cannot be deleted: {error}", text=error.message)
    if not gone:
        return Outcome(passed=world.cleaning, message=f"there is no {what} to delete")
    return Outcome(passed=True, message=f"deleted {', '.join(gone)}")


def subject(pattern: Pattern) -> str:
    """Return how the objects of a pattern are called: kind and name, or kind and labels."""
    return f"{pattern.kind} {pattern.metadata.name or f'with {labels(pattern.metadata.labels)}'}"


def _listed(kube: Kube, pattern: Pattern, namespace: str) -> dict[str, Any]:
    name = pattern.metadata.name
    return kube.list(
        pattern.api_version,
        pattern.kind,
        namespace,
        selector="" if name else labels(pattern.metadata.labels),
        field_selector=f"metadata.name={name}" if name else "",
    )


class _Objects:
    """Looks at the objects of one assert."""

    def __init__(self, step: AssertStep, world: World) -> None:
        self._step = step
        self._world = world
        self._kube = world.context.kube
        self._pattern = step.assert_
        self._expected = step.assert_.model_dump(by_alias=True, exclude_unset=True)
        self._version = ""
        self.namespace = namespace_of(step.assert_.metadata.model_dump(), world)
        self.found: list[Mapping[str, Any]] = []

    def alarm(self) -> Alarm | None:
        """Ring when something changes; None while the kind is not known."""
        try:
            resource = self._kube.resource(self._pattern.api_version, self._pattern.kind)
        except ApiError:
            return None
        name = self._pattern.metadata.name or ""
        selector = "" if name else labels(self._pattern.metadata.labels)
        return Alarm(self._kube, resource, self.namespace, version=self._version, name=name, selector=selector)

    def look(self) -> waiting.Look:
        """Read the objects and compare them."""
        try:
            listed = _listed(self._kube, self._pattern, self.namespace)
        except ApiError as error:
            return waiting.Look(
                right=False, state=str(error), hopeless=str(error) if error.status in _FORBIDDEN else ""
            )
        self._version = listed["metadata"].get("resourceVersion", "")
        self.found = listed["items"]
        for obj in self.found:
            self._world.context.cleaner.learn(obj)
        matched = [obj for obj in self.found if not self._problems(obj)]
        if self._step.absent:
            return self._absence(matched)
        resting = [obj for obj in matched if not (self._step.settled and unsettled(obj))]
        wanted = self._step.count
        right = bool(resting) if wanted is None else len(resting) == wanted == len(matched)
        if right:
            names = ", ".join(str(obj["metadata"]["name"]) for obj in resting)
            return waiting.Look(right=True, state=f"{self._pattern.kind} {names} is as expected", seen=resting)
        return waiting.Look(right=False, state=self._state(matched, resting))

    def _problems(self, obj: Mapping[str, Any], *, shown: bool = False) -> list[matching.Difference]:
        """Return what keeps ``obj`` from being as expected; ``shown``: fit to be written."""
        expected, actual = self._side_by_side(obj) if shown else (self._expected, obj)
        problems = matching.differences(expected, actual)
        where = self._step.where
        if where is not None and not problems and not holds(where, obj):
            problems.append(matching.Difference("where", where, actual=False))
        return problems

    def _side_by_side(self, obj: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return what is expected and what is there, as both may be shown."""
        return self._world.shown(self._expected, obj["metadata"]["name"]), self._world.shown(obj)

    def _absence(self, matched: list[Mapping[str, Any]]) -> waiting.Look:
        what = subject(self._pattern)
        if not matched:
            return waiting.Look(right=True, state=f"there is no {what}")
        words = []
        for obj in matched:
            metadata = obj["metadata"]
            since = metadata.get("deletionTimestamp")
            held = f", held by {', '.join(metadata['finalizers'])}" if metadata.get("finalizers") else ""
            words.append(metadata["name"] + (f" (being deleted since {since}{held})" if since else ""))
        return waiting.Look(right=False, state=f"{self._pattern.kind} {', '.join(words)} is still there")

    def _state(self, matched: list[Mapping[str, Any]], resting: list[Mapping[str, Any]]) -> str:
        count, kind = self._step.count, self._pattern.kind
        if count is not None and len(matched) != count and (matched or not self.found):
            return f"{len(matched)} match, expected {count} {subject(self._pattern)}"
        if matched:
            obj = next(obj for obj in matched if obj not in resting)
            return f"{kind} {obj['metadata']['name']} matches but has not come to rest: {unsettled(obj)}"
        closest = matching.nearest(self._expected, self.found)
        if closest is None:
            return f"there is no {subject(self._pattern)}"
        return f"{kind} {closest['metadata']['name']}: {matching.summary(self._problems(closest, shown=True))}"

    def outcome(self, ended: waiting.Wait, timeout_s: float) -> Outcome:
        """Make the report of the last look."""
        last = ended.last
        asked = self._world.shown(self._expected)
        outcome = Outcome(
            passed=ended.right,
            message=last.state,
            expected={"absent": asked} if self._step.absent else asked,
            last_seen=last.state,
            hopeless=last.hopeless,
            looks=ended.looks,
            waited=not ended.right and not self._step.absent,
        )
        if ended.right:
            live = last.seen[0] if last.seen else None
            if live:
                expected, actual = self._side_by_side(live)
                outcome.actual = matching.part(expected, actual)
            http_steps.capture(self._step.capture, live, outcome, what="the object", public=self._world.shown(live))
            return outcome
        what = ("no " if self._step.absent else "") + subject(self._pattern)
        near, closest = self._nearest_miss()
        if closest is not None:
            expected, actual = self._side_by_side(closest)
            outcome.actual = matching.part(expected, actual)
            title = f"{self._pattern.kind} {closest['metadata']['name']}"
            outcome.diff = matching.diff(expected, outcome.actual, title=title)
        head = (
            f"hopeless after {ended.waited_s:.1f} s: {last.hopeless}; waited for {what}"
            if last.hopeless
            else f"waited {timeout_s:g} s for {what}"
        )
        outcome.message = f"{head}; last seen: {last.state}{near}"
        return outcome

    def _nearest_miss(self) -> tuple[str, Mapping[str, Any] | None]:
        """Return the object that came closest, and what is said of it if it is not one that was looked at."""
        if self.found:
            return "", matching.nearest(self._expected, self.found)
        if self._step.absent:
            return "", None
        try:
            others = self._kube.list(self._pattern.api_version, self._pattern.kind, self.namespace)["items"]
        except ApiError:
            return "", None
        closest = matching.nearest(self._expected, others[:_NEAREST_OF])
        if closest is None:
            return f"; there is no {self._pattern.kind} at all in namespace {self.namespace}", None
        return f"; nearest: {self._pattern.kind} {closest['metadata']['name']}", closest
