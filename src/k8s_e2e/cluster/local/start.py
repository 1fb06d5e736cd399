"""Starting a cluster's processes, and hearing from them until the cluster is ready."""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from k8s_e2e.base.errors import EnvironmentFailure, KitError
from k8s_e2e.base.process import tail
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.cluster.local.boot_plan import SOURCE
from k8s_e2e.cluster.local.layout import LAUNCHER, ClusterDir


class Start:
    """The launcher process of one cluster, until it is let go."""

    def __init__(self, directory: ClusterDir, listener: socket.socket) -> None:
        self._directory = directory
        self._log = directory.logs / "launcher.log"
        reads, self._tell = os.pipe()
        self._hear, writes = os.pipe()
        os.set_blocking(self._hear, False)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", LAUNCHER, str(directory.root), "3"],  # -P: nothing is imported from here
                {**os.environ, "PYTHONPATH": str(SOURCE)},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reads, 0),
                    (os.POSIX_SPAWN_DUP2, writes, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, listener.fileno(), 3),
                ],
                setsid=True,  # survives the end of our terminal, process group and process
                setsigmask=[],
                setsigdef=[signal.SIGCHLD, signal.SIGINT, signal.SIGTERM],
            )
        finally:
            for handle in (reads, writes, log):
                os.close(handle)
        self._text = b""

    def wait_ready(self, timeout_s: float, progress: Progress) -> None:
        """Pass on what PID 1 says until the cluster is ready.

        Raises:
            EnvironmentFailure: it failed, and why.
        """
        started = time.monotonic()
        last = "nothing"

        def heard() -> bool | Pending:
            nonlocal last
            for words in self._heard():
                if "failed" in words:
                    raise EnvironmentFailure(f"cluster {self._directory.root.name} did not start: {words['failed']}")
                if "ready" in words:
                    return True
                last = words["progress"]
                progress(f"{last} ({time.monotonic() - started:.1f} s)")
            return Pending(f"{last} was there")

        try:
            wait_for("the cluster", heard, timeout_s=timeout_s, interval_s=0.02)
        except KitError as error:
            raise EnvironmentFailure(error.message, hint=f"logs: {self._directory.failed_logs}") from error

    def let_go(self) -> None:
        """Tell the launcher to live on without us."""
        os.write(self._tell, b"1")

    def close(self) -> None:
        """Close our ends; a launcher that was not let go ends the cluster."""
        os.close(self._tell)
        os.close(self._hear)

    def _heard(self) -> Iterator[dict[str, Any]]:
        ended = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._hear, 65536):
                self._text += data
            ended = True
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            yield json.loads(line)
        if ended:
            words = tail(self._log.read_text("utf-8", "replace"))
            yield {"failed": f"its first process ended: {words or 'without a word'}"}
