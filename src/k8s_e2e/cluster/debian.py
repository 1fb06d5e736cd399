"""Programs out of Debian packages, unpacked privately: nothing is installed, no service starts, nothing clashes."""

import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from k8s_e2e.base import process
from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster import apt

# Programs of nftables and iptables need libraries that the system may not have; this finds them beside the program.
_WRAPPER = """\
#!/bin/sh
here=${{0%/*}}
LD_LIBRARY_PATH=$here/../lib XTABLES_LIBDIR=$here/../lib/xtables exec "$here/../libexec/{program}" {applet} "$@"
"""
_XTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def unpack(packages: Sequence[str], into: Path, *, timeout_s: float, progress: Progress) -> dict[str, str]:
    """Download exactly ``packages`` and unpack them below ``into/root``; return package -> version.

    Installed or not, held or in conflict with what is installed: none of that matters here. The system's package
    lists are used; where they are missing or old, fresh ones are fetched into a directory of our own.

    Raises:
        EnvironmentFailure: no apt here, or a package cannot be had.
    """
    if not apt.available():
        raise EnvironmentFailure("this is no Debian: it has no apt-get")
    progress(f"unpacking Debian packages into the cache (nothing is installed): {' '.join(packages)}")
    debs = into / "debs"
    debs.mkdir(parents=True)
    get = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
    if process.run(get, cwd=debs, timeout_s=timeout_s, check=False).code != 0:
        lists = into / "lists"
        (lists / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={into / 'apt'}"]
        progress("fetching package lists")
        process.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", *own, "update"], timeout_s=timeout_s)
        process.run([*get[:4], *own, *get[4:]], cwd=debs, timeout_s=timeout_s)
        shutil.rmtree(lists)
    shutil.rmtree(into / "apt", ignore_errors=True)
    versions = {}
    apt.unpack(sorted(debs.iterdir()), into / "root")
    for deb in sorted(debs.iterdir()):
        name, version, _ = unquote(deb.name).split("_", 2)
        versions[name] = version
    shutil.rmtree(debs)
    return versions


def arrange_runtime(root: Path, into: Path) -> None:
    """Take containerd, runc and the CNI plugins out of an unpacked ``root`` into ``into``."""
    for name in ("bin/containerd", "bin/ctr", "bin/containerd-shim-runc-v2", "sbin/runc"):
        _move(root / "usr" / name, into / "bin" / Path(name).name)
    (into / "cni").mkdir()
    for plugin in (root / "usr" / "lib" / "cni").iterdir():
        _move(plugin, into / "cni" / plugin.name)


def arrange_netfilter(root: Path, into: Path) -> None:
    """Take nft and iptables (with the libraries they need) out of an unpacked ``root`` into ``into``."""
    _move(root / "usr" / "sbin" / "nft", into / "libexec" / "nft")
    _move(root / "usr" / "sbin" / "xtables-nft-multi", into / "libexec" / "xtables-nft-multi")
    for library in sorted([*root.glob("usr/lib/*/*.so*"), *root.glob("lib/*/*.so*")]):
        _move(library, into / "lib" / library.name)
    _move(next(root.glob("usr/lib/*/xtables")), into / "lib" / "xtables")
    _wrap(into / "bin" / "nft", "nft", "")
    for name in _XTABLES:
        _wrap(into / "bin" / name, "xtables-nft-multi", name)


def link_system_netfilter(into: Path) -> None:
    """Point at the system's own nft and iptables, for systems that are no Debian.

    Raises:
        EnvironmentFailure: they are not installed.
    """
    (into / "bin").mkdir(parents=True)
    for name in ("nft", *_XTABLES):
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if not found:
            raise EnvironmentFailure(f"{name} is not installed", hint="install nftables and iptables")
        (into / "bin" / name).symlink_to(found)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _wrap(path: Path, program: str, applet: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_WRAPPER.format(program=program, applet=applet))
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
