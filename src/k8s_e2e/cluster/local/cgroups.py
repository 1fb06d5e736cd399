"""The cluster's control groups: made before its first process, joined by it, removed after its last one.

Version 1: one directory of the same name in every hierarchy, ``cpuset`` filled in (children start without any CPU).
Version 2: one directory with its controllers enabled. Version 2 is written from its documentation (kernel,
``Documentation/admin-guide/cgroup-v2.rst``) and untested: it wants a host that boots with it.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
SYSTEM = "sys"  # the group of the cluster's own processes; pods have theirs beside it
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")


def hierarchies(mountinfo: str | None = None) -> tuple[list[Path], Path | None]:
    """Return the mount points of all version 1 hierarchies, and of version 2 (None where it is not mounted).

    ``mountinfo``: proc_pid_mountinfo(5).
    """
    first: list[Path] = []
    second: Path | None = None
    for line in (mountinfo if mountinfo is not None else _MOUNTS.read_text()).splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        point = Path(before.split(" ")[4].replace("\\040", " "))
        if kind == "cgroup" and point not in first:
            first.append(point)
        elif kind == "cgroup2":
            second = point
    return first, second


def is_v2() -> bool:
    """Say whether this is a pure version 2 host."""
    first, second = hierarchies()
    return not first and second is not None


def create(name: str) -> None:
    """Make group ``name`` and its subgroup `SYSTEM` in every hierarchy.

    Raises:
        OSError: the hierarchies cannot be written.
    """
    first, second = hierarchies()
    for root in first:
        for group in (root / name, root / name / SYSTEM):
            group.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (group / setting).exists():
                    (group / setting).write_text((group.parent / setting).read_text())
    if not first and second:
        available = (second / "cgroup.controllers").read_text().split()
        wanted = " ".join(f"+{each}" for each in _V2_CONTROLLERS if each in available)
        (second / "cgroup.subtree_control").write_text(wanted)
        (second / name / SYSTEM).mkdir(parents=True, exist_ok=True)
        (second / name / "cgroup.subtree_control").write_text(wanted)


def join(name: str) -> None:
    """Move the calling process into the `SYSTEM` subgroup, the same in every hierarchy."""
    first, second = hierarchies()
    for root in first or ([second] if second else []):
        (root / name / SYSTEM / "cgroup.procs").write_text("0")


def remove(name: str, *, timeout_s: float) -> list[Path]:
    """Kill what is left in the group, remove it everywhere, and return the directories that would not go."""
    first, second = hierarchies()
    roots = [root / name for root in (*first, *([second] if second else []))]
    deadline = time.monotonic() + timeout_s
    while True:
        left = [group for root in roots for group in _removed(root)]
        if not left or time.monotonic() >= deadline:
            return left
        for group in left:
            _kill(group)
        time.sleep(0.02)


def _removed(root: Path) -> list[Path]:
    """Remove a group with its subgroups, deepest first; return those that are still in use."""
    left = []
    for directory, _, _ in os.walk(root, topdown=False):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            left.append(Path(directory))
    return left


def _kill(group: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            if pid != "0":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
