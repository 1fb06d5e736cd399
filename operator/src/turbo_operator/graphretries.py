"""When the failed writes of the builder's graphs may be tried again."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from turbo_operator.applier import Result


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A write that failed: how often, which one, when it may be tried again, why it failed."""

    tries: int
    write: str
    retry_at: float
    reason: str


class GraphRetries:
    """The backoff of each APIGraph by its name. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}

    def failed(self, name: str, write: str, result: Result, reason: str) -> None:
        """A write did not end well; `write` tells it from others, which do not wait for it."""
        before = self._troubles.get(name)
        tries = before.tries + 1 if before is not None and before.write == write else 1
        self._troubles[name] = _Trouble(tries, write, self._clock() + result.retry_in_s(tries), reason)

    def __contains__(self, name: str) -> bool:
        return name in self._troubles

    def forget(self, name: str) -> None:
        """The next failure is a first one again."""
        self._troubles.pop(name, None)

    def waits(self, name: str, write: str) -> str | None:
        """Why a write has to wait; None if it may be tried now."""
        trouble = self._troubles.get(name)
        if trouble is None or trouble.write != write or trouble.retry_at <= self._clock():
            return None
        return trouble.reason

    def due_in_s(self) -> float:
        """Seconds until the next write may be tried again, infinite if none failed."""
        earliest = min((trouble.retry_at for trouble in self._troubles.values()), default=float("inf"))
        return max(0.0, earliest - self._clock())

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name in names}
