"""Why a run ended as it did: deterministic rules over the sealed files, ranked, with evidence."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from k8s_e2e.diagnosis.engine import diagnose

__all__ = ["diagnose"]


def __getattr__(name: str) -> Any:
    """Import `diagnose` when it is asked for (PEP 562): the verdict must not depend on every rule.

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name == "diagnose":
        from k8s_e2e.diagnosis.engine import diagnose  # noqa: PLC0415

        return diagnose
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
