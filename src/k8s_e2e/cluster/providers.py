"""Which provider a name means on this machine."""

import os
import sys

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster import machine
from k8s_e2e.cluster.provider import EXISTING, NAMES, Provider
from k8s_e2e.model.settings import Settings


def get_provider(name: str, settings: Settings) -> Provider:
    """Return the provider called ``name``; what ``auto`` is decides `machine.choose`.

    Raises:
        UsageError: there is none of that name.
        EnvironmentFailure: ``auto`` finds nothing that this machine can run.
    """
    if name == "auto":
        name = machine.choose(machine.here()).provider
    # Each is imported when it is asked for: the others' dependencies are none of its users' affair.
    if name == "local":
        from k8s_e2e.cluster.local.provider import LocalProvider  # noqa: PLC0415

        return LocalProvider(settings)
    if name == "kind":
        from k8s_e2e.cluster.kind.provider import KindProvider  # noqa: PLC0415

        return KindProvider(settings)
    if name == EXISTING:
        from k8s_e2e.cluster.existing import ExistingProvider  # noqa: PLC0415

        return ExistingProvider(settings)
    raise UsageError(f"there is no provider {name!r}", hint=f"known: {', '.join(NAMES)}")


def can_run_local() -> bool:
    """Say whether this is root on Linux."""
    return sys.platform == "linux" and os.geteuid() == 0
