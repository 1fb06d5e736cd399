"""A kubectl that fits a cluster: the user's own where it is close enough to the API server, else the kit's."""

import shutil
import sys
from pathlib import Path

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import assets
from k8s_e2e.model.settings import Settings

_SKEW = 1  # minor versions between kubectl and API server that Kubernetes supports


def on_path() -> Path | None:
    """Return the user's own kubectl."""
    found = shutil.which("kubectl")
    return Path(found) if found else None


def own(settings: Settings, progress: Progress) -> Path:
    """Return the kit's kubectl: what is there already, else one alone, else the one of the whole bundle.

    Raises:
        EnvironmentFailure: it cannot be had.
    """
    given = settings.bin_dir is not None and (settings.bin_dir / "kubectl").exists()
    if given or assets.cached("kubectl", settings):
        return assets.ensure(["kubectl"], settings, progress).path("kubectl")
    try:
        return assets.ensure(["kubectl-alone"], settings, progress).path("kubectl-alone")
    except EnvironmentFailure as error:
        if sys.platform != "linux":
            raise EnvironmentFailure(error.message, hint="put a kubectl on PATH") from error
    return assets.ensure(["kubectl"], settings, progress).path("kubectl")


def fits(client: str, server: str) -> bool:
    """Say whether versions such as ``v1.36.3`` are close enough; what is no version fits nothing."""
    try:
        return abs(minor(client) - minor(server)) <= _SKEW
    except (IndexError, ValueError):
        return False


def minor(version: str) -> int:
    """Return the minor of a version; managed clusters write it like ``v1.33+``.

    Raises:
        IndexError, ValueError: it has none.
    """
    return int("".join(char for char in version.split(".")[1] if char.isdigit()))
