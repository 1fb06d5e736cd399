"""Killing an `up`, and everything that a cluster could leave behind."""

import socket
import subprocess
import sys
import time
from pathlib import Path

from k8s_e2e.base import process
from k8s_e2e.cluster import assets
from k8s_e2e.cluster.local import teardown
from k8s_e2e.cluster.local.cgroups import Cgroup
from k8s_e2e.cluster.local.layout import cgroup_name
from k8s_e2e.model.settings import Settings


def kill_up_after(settings: Settings, name: str, after_s: float, *, control_plane_only: bool = True) -> None:
    """Run `up` in a process of its own and kill that ``after_s`` seconds after its first words."""
    child = start_up(settings, name, control_plane_only=control_plane_only)
    assert child.stdout
    child.stdout.readline()
    time.sleep(after_s)
    child.kill()
    child.communicate()


def start_up(settings: Settings, name: str, *, control_plane_only: bool) -> "subprocess.Popen[str]":
    """Start `up` in a process (and process group) of its own; it prints its progress, then UP, and stays."""
    call = f"up({name!r}, control_plane_only={control_plane_only}, progress=say); say('UP'); time.sleep(600)"
    return _start(settings, call)


def start_down(settings: Settings, name: str) -> "subprocess.Popen[str]":
    """Start `down` in a process of its own; return when it has begun."""
    child = _start(settings, f"down({name!r}, progress=say)")
    assert child.stdout
    child.stdout.readline()
    return child


def _start(settings: Settings, call: str) -> "subprocess.Popen[str]":
    code = (
        "import time; from pathlib import Path; from k8s_e2e.model.settings import Settings;"
        "from k8s_e2e.cluster.local.provider import LocalProvider;"
        "say = lambda text: print(text, flush=True);"
        f"LocalProvider(Settings(state_dir=Path({str(settings.state_dir)!r}))).{call}"
    )
    words = [sys.executable, "-c", code]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)


def assert_nothing_left(root: Path) -> None:
    """Nothing of the cluster that had directory ``root``: processes, files, control groups."""
    assert teardown.processes(root) == []
    assert not root.exists()
    assert [path for path in root.parent.iterdir() if root.name in path.name] == []
    assert [group for group in Cgroup(cgroup_name(root)).paths if group.exists()] == []
    lines = [line for line in _command_lines() if str(root) in line and "pytest" not in line]
    assert lines == []


def host_state(settings: Settings) -> dict[str, list[str]]:
    """What a cluster could change on the host: mounts, network cards, nft tables, the hostPath provisioner's files."""
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    nft = assets.ensure(["netfilter"], settings, print).path("netfilter") / "nft"
    return {
        "mounts": sorted(mounts),
        "cards": sorted(name for _, name in socket.if_nameindex()),
        "nft tables": process.run([nft, "list", "tables"], timeout_s=10).stdout.splitlines(),
        "volumes": sorted(str(path) for path in Path("/tmp").glob("hostpath*")),
    }


def _command_lines() -> list[str]:
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                lines.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return lines
