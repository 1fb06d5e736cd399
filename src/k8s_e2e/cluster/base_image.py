"""The base image for Python services where none is pulled: made from this machine's own Debian packages.

``infra/images/python`` says what goes in. Two images come out: ``build`` (venv, pip) and ``run`` (trimmed).
"""

import hashlib
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from k8s_e2e.base.data import data_dir
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import apt
from k8s_e2e.cluster.builder import Builder, Job
from k8s_e2e.cluster.oci_archive import ARCHITECTURE
from k8s_e2e.model.settings import Settings

BASE, BUILD = "BASE_IMAGE", "BUILD_IMAGE"  # build arguments that a Dockerfile takes its base images from


def source_dir() -> Path:
    """Return the directory of the recipe."""
    return data_dir() / "infra" / "images" / "python"


def declared(dockerfile: str) -> dict[str, str]:
    """Return the arguments of `BASE`/`BUILD` that ``dockerfile`` declares, with their defaults."""
    found = re.findall(rf"(?im)^\s*ARG\s+({BASE}|{BUILD})(?:=(\S*))?\s*$", dockerfile)
    return {name: default.strip("\"'") for name, default in found}


def key() -> str:
    """Return what the base images are made from, as 16 hex digits: recipe, release, architecture.

    Package versions do not count: what was built stays until the recipe or the release changes, or the cache goes.
    """
    release = platform.freedesktop_os_release()
    digest = hashlib.sha256(f"{release.get('ID')} {release.get('VERSION_ID')} {ARCHITECTURE}".encode())
    for path in sorted(source_dir().iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def references() -> dict[str, str]:
    """Return the local references of the base images by build argument."""
    return {BASE: f"localhost/k8s-e2e/python-run:{key()}", BUILD: f"localhost/k8s-e2e/python-build:{key()}"}


def arguments(declares: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments for a Dockerfile that ``declares`` some.

    One that has `BASE` alone installs and runs in the same image, so it gets the one with pip.
    """
    ours = references()
    if BUILD not in declares:
        ours[BASE] = ours[BUILD]
    return {name: reference for name, reference in ours.items() if name in declares}


def ensure(builder: Builder, settings: Settings, *, log: Path, progress: Progress) -> None:
    """Make the base images in the builder's store, where they are not there yet.

    Raises:
        EnvironmentFailure: a package cannot be had, or the build fails.
    """
    ours = references()
    if all(builder.has(reference) for reference in ours.values()):
        return
    recipe = source_dir()
    packages = [
        words[0]
        for line in (recipe / "packages.txt").read_text("utf-8").splitlines()
        if (words := line.split("#")[0].split())
    ]
    progress(f"fetching packages for the Python base image: {' '.join(packages)}")
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-base-") as scratch:
        context = Path(scratch, "context")
        shutil.copytree(recipe, context)
        debs = apt.fetch(packages, Path(scratch, "apt"), beside_system=False, timeout_s=settings.download_timeout_s)
        apt.unpack(debs, context / "rootfs")
        for target, name in (("build", BUILD), ("run", BASE)):
            progress(f"building the Python base image ({target})")
            job = Job(tag=ours[name], context=context, dockerfile=context / "Dockerfile", target=target)
            builder.build(job, log=log)
