"""The one process of a local cluster that is left outside its PID namespace: ``python -m ...launcher DIR FD``.

It is started in a session of its own, joins the cluster's control groups, leaves the host's namespaces and forks
PID 1 (see `init`). Then it is the way in: it accepts on socket ``FD``, which listens on the host's loopback, and
connects inside. It and PID 1 end together, whichever ends first; the kernel then ends everything else.
They also end when whoever called `up` is gone before the cluster was ready, and when the directory is deleted.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

from k8s_e2e.cluster.local import forwarder, init, namespaces
from k8s_e2e.cluster.local.cgroups import Cgroup
from k8s_e2e.cluster.local.layout import API_PORT, NODE_IP, cgroup_name

_LOOK_S = 2.0
_REMOVE_S = 5.0


def main(root: Path, listener: socket.socket) -> None:
    """Start the cluster in directory ``root`` and forward to its API server until it ends."""
    plan = json.loads((root / "config" / "boot.json").read_text())
    home = os.open(root, os.O_PATH | os.O_CLOEXEC)
    group = Cgroup(cgroup_name(root))
    group.create()
    group.join()
    namespaces.leave_host()
    launcher_lives = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(launcher_lives[1])
        namespaces.die_with_parent()
        listener.close()
        os.set_blocking(launcher_lives[0], False)
        try:
            ended = os.read(launcher_lives[0], 1) == b""  # it ended before the kernel was told to watch it
        except BlockingIOError:
            ended = False
        os.close(launcher_lives[0])
        if ended:
            os._exit(1)
        init.run(root, plan)
    os.close(launcher_lives[0])
    os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 1)  # PID 1 speaks
    forwarder.serve(listener, (NODE_IP, API_PORT), _ended(child), _abandoned(home))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    group.leave()
    group.remove(timeout_s=_REMOVE_S)  # nobody may come to do it


async def _ended(child: int) -> None:
    """Return when PID 1 has ended."""
    over = asyncio.Event()
    watched = os.pidfd_open(child)
    asyncio.get_running_loop().add_reader(watched, over.set)
    await over.wait()


async def _abandoned(home: int) -> None:
    """Return when whoever called `up` is gone before the cluster was ready, or when the directory was deleted."""
    loop = asyncio.get_running_loop()
    parent_gone = asyncio.Event()
    loop.add_reader(0, parent_gone.set)  # standard input is a pipe that `up` writes to when all is well
    await parent_gone.wait()
    loop.remove_reader(0)
    if os.read(0, 1) == b"":
        return
    while os.fstat(home).st_nlink > 0:  # noqa: ASYNC110 - a deleted directory tells nobody
        await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
    except OSError as refused:
        sys.exit(f"this machine refuses what a cluster needs: {refused}")
