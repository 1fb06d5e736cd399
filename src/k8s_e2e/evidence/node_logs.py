"""Following container logs in the node's own files: every run, rotation, restart and deletion, nothing lost.

The kubelet keeps ``<namespace>_<pod>_<uid>/<container>/<restart count>.log``; a full file is renamed and begun anew;
a deleted pod's directory vanishes. Open files outlive both, so what is once found is read to its end.
"""

import contextlib
import gzip
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence.container_log import ContainerLog
from k8s_e2e.evidence.cri import CriDecoder
from k8s_e2e.evidence.log_lines import Run

_CURRENT = re.compile(r"^(\d+)\.log$")
_ROTATED = re.compile(r"^(\d+)\.log\.[0-9-]+(\.gz)?$")
_READ = 1 << 18
_TURN = 1 << 22
_SETTLE_S = 2.0  # a file that lost its name may still get its writer's last lines
_FRESH_S = 1.0  # directory times are coarse: one that changed this recently is looked at again


class _File:
    """One open log file of one run."""

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self.run = run
        self.decoder = CriDecoder()
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self._fd).st_ino
        self._quiet_since = time.monotonic()

    def read(self) -> bytes:
        data = os.read(self._fd, _READ)
        if data:
            self._quiet_since = time.monotonic()
        return data

    def over(self) -> bool:
        """Tell whether nothing more will come: it has lost its name, and has been quiet since."""
        if time.monotonic() - self._quiet_since < _SETTLE_S:
            return False
        try:
            return self.path.stat().st_ino != self.inode
        except OSError:
            return True

    def close(self) -> None:
        os.close(self._fd)


class _Container:
    """The files of one container of one pod (by uid)."""

    def __init__(self, directory: Path, log: ContainerLog, pod: str, uid: str) -> None:
        self.directory = directory
        self.log = log
        self.pod = pod
        self.uid = uid
        self.files: list[_File] = []
        self.changed_ns = -1
        self.first_look = True
        self.highest = -1

    def run(self, number: int) -> Run:
        return Run(self.pod, self.directory.name, number, self.uid)


class NodeLogs:
    """Follows the logs of all containers of one namespace. `tick` reads what there is; call it often."""

    def __init__(
        self, root: Path, namespace: str, out: Path, redactor: Redactor, note: Callable[..., None] | None = None
    ) -> None:
        self._root = root
        self._prefix = f"{namespace}_"
        self._out = out
        self._redactor = redactor
        self._note = note or (lambda *_, **__: None)
        self._containers: dict[Path, _Container] = {}
        self._logs: dict[tuple[str, str], ContainerLog] = {}
        self._left_out: set[Path] = set()

    def leave_out(self, known: Callable[[str], bool]) -> None:
        """Leave out the pods whose files are there now and of whose uid nobody knows: they ended before our time."""
        for pod_dir in _directories(self._root, self._prefix):
            if not known(pod_dir.name.rpartition("_")[2]):
                self._left_out.add(pod_dir)

    def tick(self) -> int:
        """Look for new files and read all to their present end; returns the number of bytes read."""
        for pod_dir in _directories(self._root, self._prefix):
            for directory in _directories(pod_dir) if pod_dir not in self._left_out else ():
                if directory not in self._containers:
                    self._containers[directory] = self._found(directory)
        count = 0
        for directory, container in list(self._containers.items()):
            self._scan(container)
            count += self._read(container)
            if not container.files and not directory.exists():
                del self._containers[directory]
        return count

    def close(self) -> None:
        """Read all to the end and close everything."""
        while self.tick():
            pass
        for container in self._containers.values():
            for file in container.files:
                container.log.write(file.run, file.decoder.flush())
                file.close()
        for log in self._logs.values():
            log.close()

    def _found(self, directory: Path) -> _Container:
        _, pod, uid = directory.parent.name.split("_", 2)
        key = (pod, directory.name)
        if key not in self._logs:
            self._logs[key] = ContainerLog(self._out / pod, directory.name, self._redactor)
        return _Container(directory, self._logs[key], pod, uid)

    def _scan(self, container: _Container) -> None:
        """Open what is new in a container's directory, the oldest first."""
        try:
            changed = container.directory.stat().st_mtime_ns
            if changed == container.changed_ns and time.time() - changed / 1e9 > _FRESH_S:
                return
            names = os.listdir(container.directory)  # noqa: PTH208 - names only, many times a second
        except OSError:
            return
        container.changed_ns = changed
        if container.first_look:
            container.first_look = False
            self._late(container, names)
        for name in sorted(names, key=_order):
            match = _CURRENT.match(name)
            if match:
                self._open(container, container.directory / name, int(match[1]))

    def _late(self, container: _Container, names: list[str]) -> None:
        """Take in what was there before the first look: rotated files, and the runs that are already gone."""
        numbers = [int(match[1]) for name in names if (match := _CURRENT.match(name))]
        for number in range(min(numbers, default=0)):
            container.log.miss(container.run(number))
            self._note("log.missed", pod=container.pod, container=container.directory.name, run=number)
        for name in sorted(names):
            match = _ROTATED.match(name)
            if not match:
                continue
            run = container.run(int(match[1]))
            with contextlib.suppress(OSError, EOFError):
                path = container.directory / name
                with gzip.open(path) if match[2] else path.open("rb") as stream:
                    container.log.begin(run)
                    decoder = CriDecoder()
                    while data := stream.read(_READ):
                        container.log.write(run, decoder.feed(data))

    def _open(self, container: _Container, path: Path, number: int) -> None:
        try:
            inode = path.stat().st_ino
            if any(file.inode == inode for file in container.files):
                return
            file = _File(path, container.run(number))
        except OSError:
            return
        if number > container.highest >= 0:
            self._read(container, whole=True)  # the run before it first
        if number >= container.highest:
            container.highest = number
            container.log.begin(file.run)
        container.files.append(file)

    def _read(self, container: _Container, *, whole: bool = False) -> int:
        """Read on; not ``whole``: at most a turn's share of each file, so that a loud container starves nobody."""
        count = 0
        for file in list(container.files):
            taken = 0
            while (taken < _TURN or whole) and (data := file.read()):
                taken += len(data)
                container.log.write(file.run, file.decoder.feed(data))
            count += taken
            if file.over():
                container.log.write(file.run, file.decoder.flush())
                file.close()
                container.files.remove(file)
        return count


def _directories(path: Path, prefix: str = "") -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(entry.path) for entry in entries if entry.name.startswith(prefix) and entry.is_dir()]
    except OSError:
        return []


def _order(name: str) -> tuple[int, str]:
    head = name.partition(".")[0]
    return (int(head) if head.isdigit() else 0, name)
