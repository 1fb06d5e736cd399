"""What an image builder does, and which one is used: docker where an engine answers, buildah otherwise."""

from pathlib import Path
from typing import Protocol

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One image to build.

    ``arguments`` are build arguments; ``own`` are those in which the images of one Dockerfile differ. ``target`` is a
    stage other than the last.
    """

    tag: str
    context: Path
    dockerfile: Path
    arguments: dict[str, str] = {}
    own: dict[str, str] = {}
    target: str = ""


class Builder(Protocol):
    """Builds images into a store of its own and takes them out as archives."""

    name: str

    def __enter__(self) -> object:
        """Get ready; one process at a time."""
        ...

    def __exit__(self, *_: object) -> None:
        """Leave nothing running or mounted."""
        ...

    def build(self, job: Job, *, log: Path) -> None:
        """Build one image; its output is appended to ``log``.

        Raises:
            EnvironmentFailure: it failed (its last lines) or took too long.
        """
        ...

    def has(self, reference: str) -> bool:
        """Say whether the store holds an image."""
        ...

    def save(self, reference: str, out: Path) -> None:
        """Write one image to a docker archive; layers that an earlier one has may be left out.

        Raises:
            EnvironmentFailure: the store does not have it.
        """
        ...
