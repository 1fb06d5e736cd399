"""One report model and its views. Nothing is imported here before it is used: a signal handler calls `minimal`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from k8s_e2e.report.minimal_report import minimal
    from k8s_e2e.report.run import Run
    from k8s_e2e.report.write import write_reports

__all__ = ["Run", "minimal", "write_reports"]

_HOMES = {"Run": "run", "minimal": "minimal_report", "write_reports": "write"}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562).

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
