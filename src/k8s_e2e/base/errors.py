"""Every error the kit raises on purpose, with the exit code it leads to.

The tree::

    KitError                     what went wrong, where, and a hint that mends it
    ├── UsageError          2    parameter, file or command is wrong
    ├── EnvironmentFailure  3    cluster, image build or load, before the first object is applied
    ├── ExpectationError    1    the platform did not do what was expected, rollouts included
    │   └── WaitTimeout     1    a deadline passed: what was waited for, the last state seen
    ├── WatchdogError       4    a stage ran longer than its own limit
    └── KernelDied          5    a notebook's kernel died
    Interrupted       130/143    SIGINT or SIGTERM; as KeyboardInterrupt no Exception: nothing may take it for a failure

The exit code lives on the exception; ``cli.main`` is the only place that turns it into one.
"""

from typing import ClassVar


class KitError(Exception):
    """An error that is told in one clear line: ``message`` (what, where) and ``hint`` (what to do)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(KitError):
    """A parameter, a file or a command line is wrong."""

    exit_code = 2


class EnvironmentFailure(KitError):
    """The machine, the cluster or the images are not usable; nothing has been applied yet."""

    exit_code = 3


class ExpectationError(KitError):
    """The platform did not do what was expected of it."""

    exit_code = 1


class WaitTimeout(ExpectationError):
    """A deadline passed. ``what`` was waited for, ``last`` was the last state seen."""

    def __init__(self, what: str, *, timeout_s: float, last: str, hint: str = "") -> None:
        super().__init__(f"waited {timeout_s:g} s for {what}; last seen: {last or 'nothing'}", hint=hint)
        self.what = what
        self.timeout_s = timeout_s
        self.last = last


class WatchdogError(KitError):
    """A stage ran longer than its own limit."""

    exit_code = 4


class KernelDied(KitError):
    """A notebook's kernel died."""

    exit_code = 5


class Interrupted(BaseException):
    """A signal asked the run to stop; ``exit_code`` is 128 + its number, as shells have it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.exit_code = 128 + signum


def exit_code_of(name: str) -> int | None:
    """Return the exit code of the kit's error class called ``name``, None when there is none.

    A notebook's kernel hands errors over by name only.
    """
    found = list(KitError.__subclasses__())
    for kind in found:  # grows while it is walked
        if kind.__name__ == name:
            return kind.exit_code
        found.extend(kind.__subclasses__())
    return None
