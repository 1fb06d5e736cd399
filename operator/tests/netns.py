"""A network namespace with one link, to the API server: a wire that a test pulls, or makes swallow every packet."""

import asyncio
import ctypes
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import wait

from k8s_e2e.cluster.local import forwarder
from k8s_e2e.cluster.local.layout import API_PORT, NODE_IP

_HERE, _THERE = "10.99.1.2", "10.99.1.1"
_NOBODY = "02:00:00:00:00:01"
"""An Ethernet address that no card has: a frame sent to it arrives and is ignored, as in a cable that is cut."""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _run(pid: int, *commands: str) -> None:
    """Run `ip` commands in the network namespace of a process."""
    argv = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(commands), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {commands}: {done.stderr}"


@dataclass
class Wire:
    """The link between the namespace of process `holder` and that of the API server, in which `cluster` is a process.

    Both are namespaces of their own: nothing of the host's network is touched.
    """

    holder: int
    cluster: int
    server: str = f"https://{NODE_IP}:{API_PORT}"
    port: int = 0
    """Port of loopback in the namespace; the same one of the host's loopback leads there."""
    _closing: threading.Event = field(default_factory=threading.Event)

    @property
    def through(self) -> tuple[str, ...]:
        """The command that runs its arguments at the far end."""
        return "nsenter", f"--net=/proc/{self.holder}/ns/net", "--"

    @property
    def _card(self) -> str:
        return f"op{self.holder}"

    def lay(self) -> None:
        """Make both ends."""
        _run(
            self.holder,
            "link set lo up",
            f"link add eth0 type veth peer name {self._card} netns {self.cluster}",
            f"addr add {_HERE}/24 dev eth0",
        )
        _run(self.cluster, f"addr add {_THERE}/24 dev {self._card}", f"link set {self._card} up")
        self.plug()

    def plug(self) -> None:
        """The link is up."""
        _run(self.holder, "link set eth0 up", f"route replace {NODE_IP} dev eth0")

    def pull(self) -> None:
        """The link is down: what is sent fails at once."""
        _run(self.holder, "link set eth0 down")

    def silence(self) -> None:
        """Packets vanish in both directions and nobody is told: connections stay open, half of them without a peer."""
        _run(self.holder, f"neigh replace {NODE_IP} lladdr {_NOBODY} nud permanent dev eth0")
        _run(self.cluster, f"neigh replace {_HERE} lladdr {_NOBODY} nud permanent dev {self._card}")

    def mend(self) -> None:
        """Packets arrive again."""
        _run(self.holder, f"neigh del {NODE_IP} dev eth0")
        _run(self.cluster, f"neigh del {_HERE} dev {self._card}")

    def forward(self) -> None:
        """Let `port` of the host's loopback lead to the same port inside."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._forward, args=(listener,), daemon=True).start()

    def _forward(self, listener: socket.socket) -> None:
        with Path(f"/proc/{self.holder}/ns/net").open() as namespace:
            joined = _libc.setns(namespace.fileno(), _CLONE_NEWNET)  # this thread only: what it connects starts there
        if joined == 0:
            forwarder.serve(listener, ("127.0.0.1", self.port), self._closed())

    async def _closed(self) -> None:
        while not self._closing.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Take the link away at once; the kernel would do it soon after the namespace has ended."""
        self._closing.set()
        _run(self.cluster, f"link del {self._card}")


@contextmanager
def wire(cluster: int) -> Iterator[Wire]:
    """A namespace linked with that of process `cluster`.

    It lives as long as one process, which ends with the pipe that this one holds: nothing is left, whatever happens.
    """
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as holder:
        try:
            host = Path("/proc/self/ns/net").readlink()
            wait("a network namespace", lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != host)
            made = Wire(holder.pid, cluster)
            made.lay()
            made.forward()
            try:
                yield made
            finally:
                made.close()
        finally:
            holder.kill()
