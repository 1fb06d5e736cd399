"""Following container logs over the API, where the node's files cannot be read.

One thread a container run. A run that was replaced before anybody could attach is fetched as ``previous``; one that is
two or more generations gone is written down as missed.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence.container_log import ContainerLog, Lines
from k8s_e2e.evidence.log_lines import Run, split
from k8s_e2e.platform.kube import ApiError, Kube

RETRY_S = 0.2
LAG_S = 5.0  # a pod's status says within this time that a container has been started anew
QUIET_S = 0.3  # no line for so long: what the server has has arrived
_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


class RunState(NamedTuple):
    """What a pod's status says of one container: the present run, whether it began, whether there was one before."""

    run: Run
    started: bool
    running: bool
    has_previous: bool


def container_runs(pod: dict[str, Any]) -> list[RunState]:
    """Read all containers of a pod (init and ephemeral ones too) from its status."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    found = []
    for entries in (status.get(name) or [] for name in _LISTS):
        for entry in entries:
            state = entry.get("state") or {}
            count = int(entry.get("restartCount") or 0)
            run = Run(metadata.get("name", ""), entry.get("name", ""), count, metadata.get("uid", ""))
            waiting = "running" not in state and "terminated" not in state
            previous = bool((entry.get("lastState") or {}).get("terminated"))
            found.append(RunState(run, not waiting, "running" in state, previous))
    return found


class _Had:
    """How far one run has been read: the newest time, and how many lines have it (a burst shares a microsecond)."""

    def __init__(self) -> None:
        self.begun = False
        self.last = ""
        self.at_last = 0

    def without(self, lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the lines of a whole log that were not had; each is had from then on."""
        skip, last = self.at_last, self.last
        for line in lines:
            if line[0] < last:
                continue
            if line[0] == last and skip:
                skip -= 1
                continue
            self.at_last = self.at_last + 1 if line[0] == self.last else 1
            self.last = line[0]
            yield line


class ApiLogs:
    """Follows the logs of all containers of one namespace over the API; `see` is told of every pod revision."""

    def __init__(
        self, kube: Kube, namespace: str, out: Path, redactor: Redactor, note: Callable[..., None] | None = None
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._out = out
        self._redactor = redactor
        self._note = note or (lambda *_, **__: None)
        self._lock = threading.Lock()
        self._logs: dict[tuple[str, str], ContainerLog] = {}
        self._highest: dict[tuple[str, str], int] = {}  # (uid, container) -> last run that was taken up
        self._threads: list[threading.Thread] = []
        self._streams: set[Any] = set()
        self._stopping = threading.Event()
        self._last_line = time.monotonic()

    def see(self, pod: dict[str, Any]) -> None:
        """Take up the runs that ``pod`` has begun since it was last seen."""
        for state in container_runs(pod):
            run = state.run if state.started else state.run._replace(number=state.run.number - 1)
            key = (run.uid, run.container)
            with self._lock:
                known = self._highest.get(key, -1)
                if run.number <= known:
                    continue
                self._highest[key] = run.number
                missed = range(known + 1, run.number)
                log = self._log(run)
                for number in missed[:-1]:
                    log.miss(run._replace(number=number))
                    self._note("log.missed", pod=run.pod, container=run.container, run=number)
            before = run._replace(number=run.number - 1) if missed else None
            thread = threading.Thread(target=self._take, args=(run, before, not state.started), daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def close(self, *, timeout_s: float = 3.0) -> None:
        """Let followers read what the server still has, then end them and close the files."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < min(deadline, self._last_line + QUIET_S):
            time.sleep(0.05)
        self._stopping.set()
        for stream in list(self._streams):
            stream.close()
        for thread in self._threads:
            thread.join(timeout_s)
        for log in self._logs.values():
            log.close()

    def _log(self, run: Run) -> ContainerLog:
        key = (run.pod, run.container)
        if key not in self._logs:
            self._logs[key] = ContainerLog(self._out / run.pod, run.container, self._redactor)
        return self._logs[key]

    def _take(self, run: Run, before: Run | None, over: bool) -> None:
        """Read ``run`` to its end, after the run ``before`` that nobody attached to; ``over``: it ended already."""
        log = self._log(run)
        if before:
            self._once(log, before, previous=True)
        if over:
            self._once(log, run, previous=True)
            return
        had = _Had()
        while True:
            with suppress(ApiError):
                self._follow(log, run, had)
            if self._stopping.is_set() or not self._still(run):
                return
            self._stopping.wait(RETRY_S)

    def _once(self, log: ContainerLog, run: Run, *, previous: bool) -> None:
        try:
            lines = list(_lines(self._kube.logs(self._namespace, run.pod, run.container, previous=previous)))
        except ApiError as error:
            with self._lock:
                log.miss(run)
            self._note("log.missed", pod=run.pod, container=run.container, run=run.number, error=str(error))
            return
        with self._lock:
            log.begin(run)
            log.write(run, lines)

    def _follow(self, log: ContainerLog, run: Run, had: "_Had") -> None:
        """Follow until the stream ends, or turns out to be the next run's; lines in ``had`` were had before."""
        again, last = had.begun, had.last
        stream = self._kube.logs(self._namespace, run.pod, run.container, follow=True)
        self._streams.add(stream)
        try:
            with self._lock:
                log.begin(run)
            lines = _lines(stream)
            first = next(lines, None)
            had.begun = True
            if first and again and first[0] > last and not self._lasts(run):
                self._rest(log, run, had)  # a log is sent from its beginning: this one is the next run's
                return
            for line in had.without(itertools.chain([first] if first else [], lines)):
                self._last_line = time.monotonic()
                with self._lock:
                    log.write(run, [line])
        finally:
            self._streams.discard(stream)
            stream.close()

    def _lasts(self, run: Run) -> bool:
        """Tell whether ``run`` is still the newest after the time in which a pod's status may be behind."""
        deadline = time.monotonic() + LAG_S
        while self._newest(run) == run.number:
            if time.monotonic() >= deadline or self._stopping.wait(RETRY_S):
                return True
        return False

    def _rest(self, log: ContainerLog, run: Run, had: "_Had") -> None:
        """Read what is missing of a run that another one has followed."""
        try:
            lines = list(_lines(self._kube.logs(self._namespace, run.pod, run.container, previous=True)))
        except ApiError:
            lines = []
        if self._newest(run) != run.number + 1:
            lines = []  # of yet another run
        with self._lock:
            log.write(run, list(had.without(lines)))

    def _newest(self, run: Run) -> int:
        """Return the number of the container's newest run; that of ``run`` where nobody knows."""
        with suppress(ApiError):
            pod = self._kube.get("v1", "Pod", run.pod, self._namespace) or {}
            for state in container_runs(pod):
                if (state.run.uid, state.run.container) == (run.uid, run.container):
                    return state.run.number
        return run.number

    def _still(self, run: Run) -> bool:
        """Tell whether ``run`` may go on: an ended stream can be an ended container or a cut line."""
        try:
            pod = self._kube.get("v1", "Pod", run.pod, self._namespace)
        except ApiError:
            return True
        return pod is not None and any(state.run == run and state.running for state in container_runs(pod))


def _lines(chunks: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield split(line.decode("utf-8", "replace"))
    if rest:
        yield split(rest.decode("utf-8", "replace"))


def read_lines(chunks: Iterator[bytes]) -> Lines:
    """Read a whole log that came over the API."""
    return list(_lines(chunks))
