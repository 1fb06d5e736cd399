"""How a service listens, and how it ends."""

import array
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO

import httpx

from turbo_services.common.server import listen
from turbo_services.common.settings import Settings

_LEAST_PIPE = 15_000
"""Bytes: Linux has room for 64 KiB in a pipe, macOS for 16 or more; a line that does not fit leaves a little free."""


def test_answers_do_not_wait_for_a_clients_late_acknowledgement() -> None:
    """Nagle's algorithm is off: with it each answer on a connection that is kept takes 40 ms."""
    with (
        listen(Settings(host="127.0.0.1", port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_signal_in_the_middle_of_a_log_line_does_not_break_it(tmp_path: Path) -> None:
    """SIGTERM comes while a line waits for a full pipe: that line is written whole, and the end is logged."""
    env = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", "DATA_DIR": str(tmp_path), "LOG_LEVEL": "debug"}
    env.pop("PYTHONUNBUFFERED", None)  # only a stream with a buffer cannot be written from within a write
    command = [sys.executable, "-m", "turbo_services", "petstore"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as service:
        assert service.stdout is not None
        try:
            lines = []
            while not lines or lines[-1].get("msg") != "listening":
                lines.append(json.loads(service.stdout.readline()))
            # Nobody reads from here on: the pipe fills, and the service waits in the middle of a line.
            with httpx.Client(base_url=f"http://{lines[-1]['address']}", trust_env=False, timeout=2) as client:
                _ask_until_it_hangs(client, service.stdout)
            service.send_signal(signal.SIGTERM)
            time.sleep(0.5)  # the handler runs now, within the write
            said, _ = service.communicate(timeout=60)
            assert service.returncode == 0
        finally:
            service.kill()
    ended = [json.loads(line) for line in said.splitlines()]
    own = [line["msg"] for line in ended if line["logger"] == "turbo_services.common.server"]
    assert own == ["stopping", "stopped"]


def _ask_until_it_hangs(client: httpx.Client, pipe: IO[bytes]) -> None:
    """Ask until no answer comes, for there is no room for its log line in the pipe."""
    for _ in range(5000):
        try:
            client.get("/pets")
        except httpx.ReadTimeout:
            assert _unread(pipe) > _LEAST_PIPE, "it hangs for another reason"
            return
    raise AssertionError("5,000 lines went into a pipe that nobody reads")


def _unread(pipe: IO[bytes]) -> int:
    number = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, number)
    return number[0]
