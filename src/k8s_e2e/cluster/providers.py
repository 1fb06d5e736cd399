"""Which provider a name means on this machine."""

import os
import sys

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster.existing import ExistingProvider
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.cluster.provider import EXISTING, NAMES, Provider
from k8s_e2e.model.settings import Settings


def get_provider(name: str, settings: Settings) -> Provider:
    """Return the provider called ``name``; ``auto`` is local where this is root on Linux.

    Raises:
        UsageError: there is none of that name, or ``auto`` finds nothing that this machine can run.
    """
    if name == "auto":
        return LocalProvider(settings) if can_run_local() else _nothing_fits()
    if name == "local":
        return LocalProvider(settings)
    if name == EXISTING:
        return ExistingProvider(settings)
    if name in NAMES:
        raise UsageError(f"provider {name!r} is not there yet", hint="use --provider local")
    raise UsageError(f"there is no provider {name!r}", hint=f"known: {', '.join(NAMES)}")


def can_run_local() -> bool:
    """Say whether this is root on Linux."""
    return sys.platform == "linux" and os.geteuid() == 0


def _nothing_fits() -> Provider:
    raise UsageError("no provider fits this machine", hint="the local provider needs Linux and root: try sudo")
