"""Programs that come from the system's packages: installed on Debian as root, asked for elsewhere."""

import os
import shutil
from collections.abc import Mapping

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress
from k8s_e2e.model.settings import Settings

TIMEOUT_S = 600.0
_APT = ("apt-get", "-o", "DPkg::Lock::Timeout=120")  # a machine that has just started updates itself


def missing(wanted: Mapping[str, str]) -> list[str]:
    """Return the packages whose program is not on the PATH; ``wanted`` maps program to Debian package."""
    return sorted({package for program, package in wanted.items() if shutil.which(program) is None})


def command(packages: list[str]) -> str:
    """Return the command that installs ``packages`` by hand."""
    return f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"


def ensure(wanted: Mapping[str, str], settings: Settings, progress: Progress) -> None:
    """Install what is missing, after saying what.

    Raises:
        EnvironmentFailure: something is missing and may not or cannot be installed here; the hint is the command.
    """
    packages = missing(wanted)
    if not packages:
        return
    listed = ", ".join(packages)
    if settings.no_install or os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise EnvironmentFailure(f"system packages are missing: {listed}", hint=f"run: {command(packages)}")
    progress(f"installing with apt-get: {listed}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    # One source of many that does not answer makes the update fail, and the packages may be had all the same.
    updated = process.run([*_APT, "update", "-qq"], timeout_s=TIMEOUT_S, env=quiet, check=False)
    if updated.code != 0:
        progress(f"apt-get update failed, installing all the same: {process.tail(updated.stderr, 1)}")
    process.run([*_APT, "install", "-y", "-qq", "--no-install-recommends", *packages], timeout_s=TIMEOUT_S, env=quiet)
