"""How library code says what it is doing: it calls back, and never prints."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Called with one short line each time something begins, or what is waited for changes."""


def silent(_: str) -> None:
    """Say nothing."""
