"""The one way to wait: with a deadline, and with words for what was waited for."""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from k8s_e2e.base.errors import WaitTimeout

T = TypeVar("T")


class Pending(NamedTuple):
    """What a probe returns while it is not there yet: the state it saw, in a few words."""

    state: str


def wait_for(
    what: str,
    probe: Callable[[], T | Pending],
    *,
    timeout_s: float,
    interval_s: float = 0.1,
    on_state: Callable[[str], None] | None = None,
) -> T:
    """Call ``probe`` until it returns something other than `Pending`, and return that.

    A probe that cannot look returns ``Pending(str(error))``; what it raises passes through and ends the wait.
    ``on_state`` hears each new state once.

    Raises:
        WaitTimeout: ``timeout_s`` passed; it names ``what`` and the last state.
    """
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        outcome = probe()
        if not isinstance(outcome, Pending):
            return outcome
        if outcome.state != last:
            last = outcome.state
            if on_state:
                on_state(last)
        if time.monotonic() >= deadline:
            raise WaitTimeout(what, timeout_s=timeout_s, last=last)
        time.sleep(min(interval_s, max(0.0, deadline - time.monotonic())))
