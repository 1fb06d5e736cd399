"""Ending a cluster so that nothing of it is left, whatever state it is in."""

import contextlib
import os
import select
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.cluster.local.cgroups import Cgroup
from k8s_e2e.cluster.local.layout import LAUNCHER, cgroup_name

_PROC = Path("/proc")


def processes(root: Path) -> list[int]:
    """Return the launcher and PID 1 of the cluster in ``root`` (the launcher first), found by their arguments.

    Every other process of the cluster ends with PID 1, so these two are all there is to find. No file has to be
    trusted for it.
    """
    wanted = b"\0-m\0" + LAUNCHER.encode() + b"\0" + os.fsencode(root) + b"\0"
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return sorted(found, key=lambda pid: (_started(pid), pid))


def remove(root: Path, *, timeout_s: float) -> None:
    """End every process of the cluster in ``root``, then remove its control groups and its directory.

    Raises:
        EnvironmentFailure: something is left after ``timeout_s``, and what.
    """
    deadline = time.monotonic() + timeout_s
    left = [f"process {pid}" for pid in _end(root, deadline)]
    left += [f"control group {path}" for path in Cgroup(cgroup_name(root)).remove(timeout_s=_rest(deadline))]
    if root.exists():
        _delete(root)
    for trash in root.parent.glob(f".{root.name}.trash-*"):
        shutil.rmtree(trash, ignore_errors=True)
        if trash.exists():
            left.append(f"directory {trash}")
    if left:
        raise EnvironmentFailure(f"cluster {root.name} is not quite gone; left: {', '.join(left)}")


def _end(root: Path, deadline: float) -> Sequence[int]:
    """Kill PID 1 first, so that the launcher reaps it, then the launcher; return what does not go."""
    while found := processes(root):
        handles = {}
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                handles[pid] = os.pidfd_open(pid)
        try:
            for pid in reversed(found):
                if pid in handles:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handles[pid], signal.SIGKILL)
                    _wait_end(handles[pid], deadline)
                _reap(pid)
        finally:
            for handle in handles.values():
                os.close(handle)
        if time.monotonic() >= deadline:
            return processes(root)
    return []


def _wait_end(handle: int, deadline: float) -> None:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.poll(_rest(deadline) * 1000)


def _reap(pid: int) -> None:
    """Take a child of this very process out of the process table; others have their own parents."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _delete(root: Path) -> None:
    trash = root.with_name(f".{root.name}.trash-{os.getpid()}-{time.monotonic_ns()}")
    root.rename(trash)  # at once: nobody takes half of a directory for a cluster


def _started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc_pid_stat(5), field 22)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def _rest(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
