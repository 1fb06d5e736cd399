"""The kit's Python API for notebooks and people: ``from k8s_e2e import Run``.

>>> run = Run.latest()                                              # doctest: +SKIP
>>> run.steps[["id", "status", "duration_s"]]                       # doctest: +SKIP
>>> run.plot_timeline()                                             # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from k8s_e2e.report.run import Run

__all__ = ["Run"]


def __getattr__(name: str) -> Any:
    """Import `Run` when it is asked for, so that importing the kit stays cheap (PEP 562).

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name == "Run":
        from k8s_e2e.report.run import Run  # noqa: PLC0415

        return Run
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
