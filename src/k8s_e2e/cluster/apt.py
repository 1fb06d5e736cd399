"""Debian packages with all they depend on, fetched and checked by apt into a directory; nothing is installed.

Works on every system with apt: the packages are of the system's own release, from its own sources.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure

_UNPACK_TIMEOUT_S = 120.0


def available() -> bool:
    """Say whether this is a system with apt and dpkg."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg"))


def fetch(packages: Sequence[str], into: Path, *, beside_system: bool, timeout_s: float) -> list[Path]:
    """Download ``packages`` and what they depend on; return the ``.deb`` files.

    ``beside_system``: leave out what the system has installed; else count on nothing. The system's package lists are
    used; where they are missing or old, fresh ones are fetched into a directory of our own.

    Raises:
        EnvironmentFailure: there is no apt, or a package cannot be had.
    """
    if not available():
        raise EnvironmentFailure("this is no Debian or Ubuntu: it has no apt-get")
    into.mkdir(parents=True, exist_ok=True)
    (into / "archives" / "partial").mkdir(parents=True)
    (into / "lists" / "partial").mkdir(parents=True)
    (into / "none").touch()
    options = {
        "Dir::Cache": str(into),
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "Debug::NoLocking": "true",  # the locks guard what is installed, and we install nothing
        **({} if beside_system else {"Dir::State::status": str(into / "none")}),
    }
    own_lists = {**options, "Dir::State::Lists": str(into / "lists")}
    download = ["--yes", "--download-only", "install", *packages]
    if process.run(_apt(options, download), timeout_s=timeout_s, check=False).code != 0:
        process.run(_apt(own_lists, ["update"]), timeout_s=timeout_s)
        process.run(_apt(own_lists, download), timeout_s=timeout_s)
    return sorted((into / "archives").glob("*.deb"))


def unpack(debs: Sequence[Path], root: Path) -> None:
    """Unpack the files of ``debs`` below ``root``; none of their scripts runs.

    Raises:
        EnvironmentFailure: a package is damaged.
    """
    root.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        process.run(["dpkg", "-x", deb, root], timeout_s=_UNPACK_TIMEOUT_S)


def _apt(options: dict[str, str], words: Sequence[str]) -> list[str]:
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), *words]
