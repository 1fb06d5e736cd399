"""Steps that take a picture of a page, and keep its text beside it."""

import re
import secrets
import time
from http import HTTPStatus

from k8s_e2e.base import clock, files
from k8s_e2e.base.errors import ExpectationError
from k8s_e2e.model.results import RequestRecord, Screenshot
from k8s_e2e.scenarios import matching
from k8s_e2e.scenarios.browser import NoBrowser, Shot
from k8s_e2e.scenarios.model import ScreenshotStep
from k8s_e2e.scenarios.world import Outcome, World

PAGE_TIMEOUT_S = 15.0


def run_screenshot(step: ScreenshotStep, world: World) -> Outcome:
    """Load the page in the browser; write `screenshots/<scenario>-<step>.png` and `.json`."""
    wanted = step.screenshot
    context = world.context
    try:
        port = context.profile.service(wanted.service).port
        url = context.forwards.url(wanted.service, port) + wanted.path
    except ExpectationError as error:
        return Outcome(passed=False, message=error.message, waited=True)
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    record = RequestRecord(
        time=clock.now(),
        traceparent=f"00-{trace_id}-{span_id}-01",
        trace_id=trace_id,
        step=world.step_id,
        service=wanted.service,
        method="GET",
        url=world.redactor.text(url),
    )
    began = time.monotonic()
    try:
        shot = world.browser.shot(
            url,
            redactor=world.redactor,
            headers={"traceparent": record.traceparent},
            contains=wanted.contains,
            mask=wanted.mask,
            width=wanted.width,
            height=wanted.height,
            theme=wanted.theme,
            timeout_s=world.within(step.timeout, PAGE_TIMEOUT_S),
        )
    except NoBrowser as error:
        return Outcome(passed=True, skipped=True, message=f"no screenshot: {error}")
    except ExpectationError as error:
        record.error = error.message
        return Outcome(passed=False, message=error.message, trace_ids=[trace_id], waited=True)
    else:
        record.status = shot.status
    finally:
        record.duration_s = round(time.monotonic() - began, 6)
        if record.status or record.error:
            context.requester.note(record)
    world.sent[world.step_name] = (trace_id, span_id)
    picture = _write(shot, trace_id, step, world)
    return _judged(shot, step, trace_id, picture)


def _write(shot: Shot, trace_id: str, step: ScreenshotStep, world: World) -> str:
    number = world.step_id.rpartition("/")[2]
    slug = re.sub(r"[^a-z0-9]+", "-", world.step_name.lower()).strip("-")[:60]
    name = f"{world.scenario}-{number}-{slug}"
    about = Screenshot(
        url=shot.url,
        time=clock.now(),
        step=world.step_id,
        title=shot.title,
        status=shot.status,
        trace_id=trace_id,
        text=shot.text,
        console_errors=shot.console_errors,
        redactions=shot.redactions,
        width=step.screenshot.width,
        height=step.screenshot.height,
    )
    directory = world.context.run.screenshots
    files.write(directory / f"{name}.png", shot.png)
    files.write_json(directory / f"{name}.json", about)
    return f"screenshots/{name}.png"


def _judged(shot: Shot, step: ScreenshotStep, trace_id: str, picture: str) -> Outcome:
    wanted = step.screenshot
    problems = []
    if shot.status != HTTPStatus.OK:
        problems.append(f"the page answered {shot.status}")
    if shot.missing:
        problems.append(f"the page does not show {', '.join(map(repr, shot.missing))}")
    limit = wanted.console_errors
    if limit is not None and len(shot.console_errors) > limit:
        problems.append(f"{len(shot.console_errors)} errors in the console: {shot.console_errors[0]}")
    expected = {"status": 200, "contains": wanted.contains}
    actual = {"status": shot.status, "contains": [text for text in wanted.contains if text not in shot.missing]}
    return Outcome(
        passed=not problems,
        message="; ".join(problems) or f"{shot.title or shot.url}, {len(shot.console_errors)} console errors",
        expected=expected,
        actual=actual,
        diff=matching.diff(expected, actual, title="page") if problems else "",
        text=shot.text,
        trace_ids=[trace_id],
        evidence=[picture, picture.removesuffix(".png") + ".json"],
    )
