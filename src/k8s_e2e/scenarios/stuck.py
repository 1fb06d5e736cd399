"""Where a change got stuck: the profile's stations are asked in order, the first that was not passed is named."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from k8s_e2e.base.text import one_line
from k8s_e2e.model.profile import Station, StationObjects, StationRequest
from k8s_e2e.platform.http import Unanswered
from k8s_e2e.platform.kube import ApiError
from k8s_e2e.platform.pod_state import describe_pod
from k8s_e2e.scenarios import http_steps, references
from k8s_e2e.scenarios.loader import labels
from k8s_e2e.scenarios.values import holds, search
from k8s_e2e.scenarios.world import World

REQUEST_S = 3.0
ALL_S = 10.0  # for all stations together: the run goes on


class _Passed(NamedTuple):
    """Whether a station was passed, and otherwise what was seen there."""

    passed: bool
    seen: str = ""


def stuck_point(world: World) -> str:
    """Return the first station that was not passed, what was seen there, and those passed before it.

    Empty if the profile names no station, or none that this scenario has values for.
    """
    deadline = time.monotonic() + ALL_S
    passed: list[str] = []
    for station in world.context.profile.chain:
        try:
            plain = references.resolve(station.model_dump(exclude={"ok", "seen"}), world.lookup)
            ok, seen = references.resolve([station.ok, station.seen], world.lookup)
        except references.Unknown:
            continue
        if time.monotonic() > deadline:
            return f"unknown: the look at {station.name} came too late (passed: {', '.join(passed) or 'none'})"
        result = _look(Station(**{**plain, "ok": ok, "seen": seen}), world)
        if not result.passed:
            return f"{station.name}: {result.seen} (passed: {', '.join(passed) or 'none'})"
        passed.append(station.name)
    return f"nowhere: passed {', '.join(passed)}" if passed else ""


def _look(station: Station, world: World) -> _Passed:
    try:
        if station.http:
            return _answer(station, station.http, world)
        assert station.objects
        return _objects(station, station.objects, world)
    except (Unanswered, ApiError) as error:
        return _Passed(passed=False, seen=one_line(str(error)))


def _answer(station: Station, request: StationRequest, world: World) -> _Passed:
    reply = world.context.requester.send(
        request.service, "GET", request.path, step=world.step_id, timeout_s=REQUEST_S, trace=False
    )
    value = http_steps.value_of(reply)
    if holds(station.ok, value):
        return _Passed(passed=True)
    return _Passed(passed=False, seen=f"{request.service} says {_seen(station.seen, value) or http_steps.said(reply)}")


def _objects(station: Station, wanted: StationObjects, world: World) -> _Passed:
    kube, namespace = world.context.kube, world.context.namespace
    by_name = f"metadata.name={wanted.name}" if wanted.name else ""
    found = kube.list(
        wanted.api_version, wanted.kind, namespace, selector=labels(wanted.selector), field_selector=by_name
    )["items"]
    if not found:
        return _Passed(
            passed=False, seen=f"there is no {wanted.kind} {wanted.name or f'with {labels(wanted.selector)}'}"
        )
    behind = [obj for obj in found if not holds(station.ok, obj)]
    if not behind:
        return _Passed(passed=True)
    more = f" (and {len(behind) - 1} more)" if len(behind) > 1 else ""
    if wanted.kind == "Pod":
        events = kube.list("v1", "Event", namespace)["items"]
        words = [words for pod in behind if (words := describe_pod(pod, events))]
        if words:
            return _Passed(passed=False, seen=one_line(words[0]) + more)
    obj = world.shown(behind[0])
    said = _seen(station.seen, obj) or one_line(http_steps.shown(obj.get("status") or {}))
    return _Passed(passed=False, seen=f"{wanted.kind} {obj['metadata']['name']} {said}{more}")


def _seen(expression: str, value: Any) -> str:
    if not expression:
        return ""
    try:
        found = search(expression, value)
    except ValueError:
        return ""
    if isinstance(found, str):
        return one_line(found)
    return http_steps.shown(found) if isinstance(found, (Mapping, list)) else ""
