"""Looking again and again until what is seen is right, and stays right.

One look that is right proves nothing: the second, a moment later, must be, too. A look that shows a state which can
never become right ends the wait at once.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from k8s_e2e.base.progress import Progress

GAP_S = 0.1  # between the two looks that must agree
ASK_HOPELESS_S = 0.5  # how often the state of pods is looked at while something is waited for


class Look(NamedTuple):
    """What one look saw: right or not, the state in a few words, and what the step makes its report of."""

    right: bool
    state: str
    seen: Any = None
    hopeless: str = ""


class Wait(NamedTuple):
    """How a wait ended. ``hopeless`` is the state that ended it early; ``looks`` how often was looked."""

    right: bool
    last: Look
    looks: int
    waited_s: float


def wait(
    look: Callable[[], Look],
    *,
    timeout_s: float,
    hold_s: float = 0.0,
    pause: Callable[[float], None] = time.sleep,
    interval_s: float = ASK_HOPELESS_S,
    hopeless: Callable[[Look], str] | None = None,
    progress: Progress,
) -> Wait:
    """Look until two looks in a row (and all looks within ``hold_s``) are right, or ``timeout_s`` has passed.

    Holding begins with the first right look and may end after the deadline; a look that is not right begins it anew.

    Args:
        look: looks once.
        timeout_s: until the first of the right looks.
        hold_s: how long it must stay right.
        pause: waits for the next look; it may return early when something has changed.
        interval_s: the longest pause.
        hopeless: asked at most every `ASK_HOPELESS_S`, after a look that is not right; what it returns ends the wait.
        progress: hears each new state.
    """
    began = time.monotonic()
    looks, right_since, asked, told = 0, None, began, ""
    while True:
        seen = look()
        looks += 1
        now = time.monotonic()
        if seen.right:
            if right_since is None:
                right_since = now
            elif now - right_since >= hold_s:
                return Wait(right=True, last=seen, looks=looks, waited_s=now - began)
            left_s = hold_s - (now - right_since)
            if left_s > GAP_S:
                pause(min(interval_s, left_s))
            else:
                time.sleep(max(left_s, GAP_S))
            continue
        right_since = None
        if seen.state != told:
            told = seen.state
            progress(told)
        if not seen.hopeless and hopeless and now - asked >= ASK_HOPELESS_S:
            asked = now
            seen = seen._replace(hopeless=hopeless(seen))
        left_s = timeout_s - (now - began)
        if seen.hopeless or left_s <= 0:
            return Wait(right=False, last=seen, looks=looks, waited_s=now - began)
        pause(min(interval_s, left_s))
