"""Services as real processes on loopback."""

import array
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

START_S = 90.0


class Service:
    """A service's process; it can be killed and started again on the same port with the same data."""

    def __init__(self, name: str, directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.port = 0
        self.lines: list[dict[str, Any]] = []
        self.directory = directory
        self.reading = threading.Event()
        """While it is not set nobody reads what the process says."""
        self.reading.set()
        self._env = env
        self._listening = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._client: httpx.Client | None = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def http(self) -> httpx.Client:
        """A client for the service."""
        assert self._client is not None
        return self._client

    def spawn(self) -> "Service":
        """Start the process without waiting for it."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "VITE_")) and k != "PORT"}
        env = {
            **inherited,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATA_DIR": str(self.directory),
            "LOG_LEVEL": "debug",
            **self._env,
        }
        self._listening.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "turbo_services", self.name],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        return self

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.reading.wait()
                try:
                    record = json.loads(line)
                except ValueError:
                    record = {"msg": line.decode(errors="replace").rstrip(), "not_json": True}
                self.lines.append(record)
                if record["msg"] == "listening":
                    self.port = int(record["address"].rpartition(":")[2])
                    self._listening.set()

    def wait(self) -> "Service":
        """Wait until it answers."""
        if not self._listening.wait(START_S):
            raise AssertionError(f"{self.name} does not listen after {START_S} s: {self.lines[-3:]}")
        self._client = self._client or httpx.Client(base_url=self.url, timeout=15, trust_env=False)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                if self.http.get("/healthz").status_code == 200:
                    return self
            except httpx.HTTPError:
                time.sleep(0.02)
        raise AssertionError(f"{self.name} does not answer after {START_S} s: {self.lines[-3:]}")

    def start(self) -> "Service":
        """Start and wait."""
        return self.spawn().wait()

    @property
    def stopped(self) -> bool:
        """Whether there is no process."""
        return self._process is None or self._process.poll() is not None

    def restart_if_stopped(self) -> None:
        """Leave it running for the next test, however this one ended."""
        if self.stopped:
            self.start()

    def ended(self) -> int:
        """Wait until it ends by itself; the exit code."""
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(START_S)
        self._reader.join(START_S)
        return code

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self._process is not None
        assert self._reader is not None
        self._process.send_signal(number)
        code = self._process.wait(START_S)
        self._reader.join(START_S)
        return code

    def unread(self) -> int:
        """Bytes that wait in the pipe."""
        assert self._process is not None
        assert self._process.stdout is not None
        number = array.array("i", [0])
        fcntl.ioctl(self._process.stdout, termios.FIONREAD, number)
        return number[0]

    def close(self) -> None:
        """End it in whatever state it is."""
        self.reading.set()
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if self._client is not None:
            self._client.close()
