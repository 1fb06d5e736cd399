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
_SYSTEM = "sys"  # the group of the cluster's own processes; pods have theirs beside it
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


class Cgroup:
    """The control group called ``name``, the same in every hierarchy.

    Hierarchies are looked up once: a process in namespaces of its own may not be able to do so later.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first, self._second = hierarchies()
        every = [*self._first, *([self._second] if self._second else [])]
        self._joined = self._first or every  # a hybrid host's version 2 has no controllers
        self.paths = [root / name for root in every]

    def create(self) -> None:
        """Make the group and the subgroup of the cluster's own processes.

        Raises:
            OSError: the hierarchies cannot be written.
        """
        for root in self._first:
            for group in (root / self._name, root / self._name / _SYSTEM):
                group.mkdir(exist_ok=True)
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    if (group / setting).exists():
                        (group / setting).write_text((group.parent / setting).read_text())
        if not self._first and self._second:
            available = (self._second / "cgroup.controllers").read_text().split()
            wanted = " ".join(f"+{each}" for each in _V2_CONTROLLERS if each in available)
            (self._second / "cgroup.subtree_control").write_text(wanted)
            (self._second / self._name / _SYSTEM).mkdir(parents=True, exist_ok=True)
            (self._second / self._name / "cgroup.subtree_control").write_text(wanted)

    def join(self) -> None:
        """Move the calling process into the subgroup, in every hierarchy."""
        for root in self._joined:
            (root / self._name / _SYSTEM / "cgroup.procs").write_text("0")

    def leave(self) -> None:
        """Move the calling process to the top of every hierarchy, so that the group can be removed."""
        for root in self._joined:
            (root / "cgroup.procs").write_text("0")

    def remove(self, *, timeout_s: float) -> list[Path]:
        """Kill what is left in the group, remove it, and return the directories that would not go in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = [group for path in self.paths for group in _removed(path)]
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
