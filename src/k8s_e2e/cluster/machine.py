"""What this machine has, and which provider `auto` takes on it."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster import docker

_EXISTING = "use a cluster that you have: `k8s-e2e run --provider existing --cluster CONTEXT`"


class Machine(NamedTuple):
    """What decides which provider fits. ``system`` is Python's ``sys.platform``: linux, darwin, win32."""

    system: str
    root: bool
    docker: docker.Engine


class Choice(NamedTuple):
    """A provider's name, and why it is the one."""

    provider: str
    why: str


def here() -> Machine:
    """Look at this machine; a Docker engine is asked."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return Machine(sys.platform, root, docker.engine())


def choose(machine: Machine) -> Choice:
    """Return what `auto` takes: kind where a Docker engine answers, local where this is root on Linux.

    Raises:
        EnvironmentFailure: neither is the case; its hint says what to do on this machine.
    """
    if machine.docker.version:
        return Choice("kind", f"a Docker engine answers (version {machine.docker.version})")
    silent = machine.docker.problem
    if machine.system == "linux" and machine.root:
        return Choice("local", f"this is root on Linux, and no Docker engine answers ({silent})")
    local = "the local provider needs root" if machine.system == "linux" else "the local provider needs Linux"
    message = f"no provider fits this machine: kind needs a Docker engine ({silent}), {local}"
    raise EnvironmentFailure(message, hint=way_forward(machine))


def way_forward(machine: Machine) -> str:
    """Say how to come to a cluster on a machine where no Docker engine answers."""
    client = machine.docker.client
    match machine.system:
        case "linux" if machine.root:
            return f"use --provider local, or {'start' if client else 'install'} Docker, or {_EXISTING}"
        case "linux":
            if client and "permission denied" in machine.docker.problem.lower():
                engine = "let this user talk to the Docker engine (its group, or rootless Docker)"
            else:
                engine = "start Docker" if client else "install Docker, rootless Docker included"
            return f"run it with sudo, or {engine} for a kind cluster, or {_EXISTING}"
        case "darwin":
            start = "start Docker Desktop, or colima by `colima start`,"
            return f"{start if client else f'install and {start}'} for a kind cluster, or {_EXISTING}"
        case "win32":
            return f"run it in WSL 2 with Docker, or {_EXISTING}"
    return _EXISTING


def instead_of_local(machine: Machine) -> str:
    """Say what to do where the local provider was asked for and cannot run."""
    if machine.docker.version:
        return "use --provider kind: a Docker engine answers"
    return way_forward(machine)


def available_memory() -> int:
    """Return the memory that new programs could have without swapping, in bytes."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
