"""Linux namespaces and mounts, called directly: each `mount` or `unshare` program would cost a fork and a start.

References: unshare(2), mount(2), pid_namespaces(7), prctl(2).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

_NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mount, uts, ipc, pid, net
_PR_SET_PDEATHSIG = 1
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _mount(source: str | Path, target: str | Path, kind: str, flags: int, options: str = "") -> None:
    words = [os.fsencode(each) for each in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None), f"mount {target}")


def leave_host() -> None:
    """Move this process into fresh mount, UTS, IPC and network namespaces; its next child is PID 1 of a fresh one."""
    _check(_libc.unshare(_NEW_NAMESPACES), "unshare")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def bind(source: str | Path, target: str | Path) -> None:
    """Show ``source`` at ``target`` as well."""
    _mount(source, target, "", _MS_BIND | _MS_REC)


def mount_proc() -> None:
    """Mount a /proc that shows this PID namespace."""
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def mount_tmpfs(target: str | Path) -> None:
    """Mount an empty file system in memory."""
    _mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")


def mount_overlay(target: str | Path, options: str) -> None:
    """Mount an overlay (``lowerdir=...,upperdir=...,workdir=...``)."""
    _mount("overlay", target, "overlay", 0, options)


def share_mounts() -> None:
    """Let mounts made here reach the containers' mount namespaces and back, as kubelet needs it."""
    _mount("none", "/", "", _MS_REC | _MS_SHARED)


class Kept:
    """Directories that stay visible where their parents are about to be hidden. Use as a context manager."""

    def __init__(self, paths: Iterable[Path], hidden: Sequence[str]) -> None:
        below = {path for path in paths if any(path.is_relative_to(each) for each in hidden)}
        outermost = {path for path in below if not any(path != each and path.is_relative_to(each) for each in below)}
        self._open = {path: os.open(path, os.O_PATH) for path in sorted(outermost)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._open.values():
            os.close(handle)

    def show(self) -> None:
        """Bind each of them to its own path again."""
        for path, handle in self._open.items():
            path.mkdir(parents=True, exist_ok=True)
            bind(f"/proc/self/fd/{handle}", path)


def replace_files(directory: Path, values: dict[str, str]) -> None:
    """Put private files with these contents over existing ones; what does not exist here is left out."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in values.items():
        if Path(path).exists():
            private = directory / path.strip("/").replace("/", "-")
            private.write_text(content)
            bind(private, path)


def set_up_network(address: str, gateway: str) -> None:
    """Give the namespace a loopback and one network card, a veth whose other end is here, too.

    Raises:
        OSError: `ip` is missing or refused; its message.
    """
    commands = [
        "link set lo up",
        "link add eth0 type veth peer name eth0-peer",
        f"addr add {address}/24 dev eth0",
        "link set eth0 up",
        "link set eth0-peer up",
        f"route add default via {gateway}",
    ]
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip: {done.stderr.decode(errors='replace').strip()}")
    for setting in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables"):
        with contextlib.suppress(FileNotFoundError):  # the second comes with the module br_netfilter
            Path("/proc/sys/net", setting).write_text("1")


def set_hostname(name: str) -> None:
    """Name this UTS namespace."""
    socket.sethostname(name)
