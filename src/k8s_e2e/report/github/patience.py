"""How long an answer of an API is waited for: a growing pause after each try, all of them within one deadline."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from k8s_e2e.base.progress import Progress, silent

_LONGEST_S = 30.0  # of a pause that nobody asked for


class Later(Exception):
    """It may work later: after ``after_s`` seconds at the earliest, where the API has said so. ``why`` is one line."""

    def __init__(self, why: str, *, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.after_s = after_s


class GaveUp(Exception):
    """The deadline has passed, or would have before the next try."""


@dataclass
class Patience:
    """``total_s`` seconds from now on for everything; ``clock`` and ``sleep`` are those of `time`."""

    total_s: float
    progress: Progress = silent
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    tries: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.total_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self._deadline - self.clock())

    def wait(self, later: Later) -> None:
        """Wait before the next try: as long as was asked for, else 1, 2, 4, ... seconds.

        Raises:
            GaveUp: that would be after the deadline; it says what it waited for.
        """
        pause_s = max(later.after_s, min(2.0**self.tries, _LONGEST_S))
        self.tries += 1
        if pause_s >= self.left_s:
            asked = f"; the next try would be in {pause_s:.0f} s" if later.after_s else ""
            message = f"{later.why}; gave up after {self.total_s - self.left_s:.0f} of {self.total_s:.0f} s{asked}"
            raise GaveUp(message)
        self.progress(f"{later.why}; trying again in {pause_s:.0f} s")
        self.sleep(pause_s)
