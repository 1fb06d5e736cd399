"""The recorder process: ``python -m k8s_e2e.evidence.recording CONFIG``, started by `recorder.start`.

It watches a namespace and follows its logs until it is told to drain (SIGUSR1) or to stop (SIGTERM), until its run
directory is gone, or until the API server has been gone for long. What it sees is on disk at once: a kill loses the
line that is being written.
"""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from k8s_e2e.base import clock, files
from k8s_e2e.evidence import targets
from k8s_e2e.evidence.api_logs import ApiLogs
from k8s_e2e.evidence.history import History
from k8s_e2e.evidence.node_logs import NodeLogs
from k8s_e2e.evidence.secrets import Cleaner, run_salt
from k8s_e2e.evidence.watcher import Watcher
from k8s_e2e.platform.kube import ApiError, Kube

TICK_S = 0.1
FIRST_LISTS_S = 5.0
NOT_SERVED = 404
HANDOVER = "values"  # the pipe beside the config file on which a drained recorder hands over what it has learnt
CLUSTER_GONE_S = 10.0  # the kubeconfig has been removed and nobody answers


class Config(msgspec.Struct, kw_only=True):
    """What the process is told, in a 0600 file of the state directory."""

    run_dir: str
    namespace: str
    kubeconfig: str
    context: str = ""
    pod_logs: str = ""
    custom_resources: list[tuple[str, str]] = []  # apiVersion, kind
    gone_s: float = 300.0


class Logs(Protocol):
    """Who follows the logs."""

    def close(self) -> None:
        """Read all there is, then close."""


class Recording:
    """One recording: watchers, log followers, and what they write to."""

    def __init__(self, config: Config, state: Path) -> None:
        self.run_dir = Path(config.run_dir)
        self._config = config
        self._kubeconfig = Path(config.kubeconfig)
        self._inode = self.run_dir.stat().st_ino
        self._diagnostics = files.Lines(self.run_dir / "logs" / "recorder.jsonl")
        self._kube = Kube.connect(self._kubeconfig, config.context)
        self._cleaner = Cleaner(run_salt(state))
        self._began = time.monotonic()
        k8s = self.run_dir / "k8s"
        self._lost = False
        self._node_logs: NodeLogs | None = None
        self._api_logs: ApiLogs | None = None
        on_pod: Callable[[dict[str, Any]], None] | None = None
        if config.pod_logs:
            self._node_logs = NodeLogs(
                Path(config.pod_logs), config.namespace, k8s / "logs", self._cleaner.redactor, self.note
            )
        else:
            self._api_logs = ApiLogs(self._kube, config.namespace, k8s / "logs", self._cleaner.redactor, self.note)
            on_pod = self._api_logs.see
        self._history = History(
            k8s / "history.jsonl", k8s / "events.jsonl", self._cleaner, note=self.note, on_pod=on_pod
        )
        kinds = [*targets.KINDS, *config.custom_resources]
        self._watchers = [Watcher(self._kube, kind, config.namespace, self._history) for kind in kinds]

    def note(self, event: str, **fields: Any) -> None:
        """Write one diagnostic; where even that fails, to standard error."""
        entry = {"time": clock.now(), "event": event, **fields}
        try:
            self._diagnostics.append(entry)
        except (files.DiskFull, OSError) as error:
            sys.stderr.write(f"{entry} not written: {error}\n")

    def begin(self) -> list[str]:
        """Start watching; returns the kinds whose first list did not come in time.

        Secrets come first: their values must be known before anything else is written.
        """
        first = [watcher for watcher in self._watchers if watcher.kind == targets.SECRETS]
        rest = [watcher for watcher in self._watchers if watcher.kind != targets.SECRETS]
        deadline = time.monotonic() + FIRST_LISTS_S
        late: list[str] = []
        for group in (first, rest):
            for watcher in group:
                watcher.start()
            late += [
                watcher.kind[1] for watcher in group if not watcher.ready.wait(max(0.0, deadline - time.monotonic()))
            ]
        if self._node_logs and targets.PODS[1] not in late:
            self._node_logs.leave_out(self._history.has_seen)
        self.tick()
        self.note("recorder.started", pid=os.getpid(), kinds=len(self._watchers), late=late, seconds=self._elapsed())
        return late

    def tick(self) -> None:
        """Read the node's log files on; lines that cannot be written are lost, and the first loss is noted."""
        if not self._node_logs:
            return
        try:
            self._node_logs.tick()
        except OSError as error:
            if not self._lost:
                self.note("log.lost", error=str(error))
            self._lost = True

    def abandoned(self) -> str:
        """Return why there is nothing left to record, or nothing."""
        if not self.still_there():
            return "the run directory is gone"
        silent_s = time.monotonic() - max(watcher.last_contact for watcher in self._watchers)
        if silent_s > self._config.gone_s:
            return f"the API server has been gone for {silent_s:.0f} s"
        if silent_s > CLUSTER_GONE_S and not self._kubeconfig.exists():
            return "the cluster has been removed"
        return ""

    def still_there(self) -> bool:
        """Tell whether the run directory is the one that the recording began in."""
        try:
            return self.run_dir.stat().st_ino == self._inode
        except OSError:
            return False

    def end(self, why: str, *, catch_up: bool) -> None:
        """Stop watching, read all logs to their end, and write out what it took."""
        if catch_up:
            self._catch_up()
        for watcher in self._watchers:
            watcher.stop()
        for watcher in self._watchers:
            watcher.join(0.5)
        logs: Logs | None = self._node_logs or self._api_logs
        if logs:
            logs.close()
        self._history.close()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.note(
            "recorder.ended",
            why=why,
            wall_s=self._elapsed(),
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            rss_peak_mib=round(usage.ru_maxrss / 1024, 1),
            rows=self._history.rows,
            redactions=dict(self._cleaner.redactor.counts),
        )
        self._diagnostics.close()
        self._kube.close()

    def hand_over(self, pipe: Path) -> None:
        """Give the Secret values that were learnt to whoever reads ``pipe``, if anybody does."""
        with suppress(OSError):
            writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(writing, True)
            with os.fdopen(writing, "wb") as stream:
                stream.write(msgspec.json.encode(self._cleaner.redactor.learnt()))

    def _catch_up(self) -> None:
        """List every kind once more: what the watches have not delivered yet is in there."""

        def one(watcher: Watcher) -> None:
            try:
                watcher.catch_up()
            except (ApiError, files.DiskFull) as error:
                if isinstance(error, ApiError) and error.status == NOT_SERVED:
                    return
                self.note("drain.failed", kind=watcher.kind[1], error=str(error))

        threads = [threading.Thread(target=one, args=(watcher,), daemon=True) for watcher in self._watchers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(FIRST_LISTS_S)

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._began, 3)


def main(argv: list[str]) -> int:
    """Record until told to end. ``argv``: the config file, and the number of the descriptor to say "ready" on.

    It forks first, so that whoever started it has no child to wait for.
    """
    path, ready = Path(argv[0]), int(argv[1])
    if os.fork():
        os._exit(0)
    files.write(path.with_name("pid"), f"{os.getpid()}\n", mode=0o600)
    asked: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _: asked.append(signum))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        recording = Recording(msgspec.json.decode(path.read_bytes(), type=Config), path.parent)
        late = recording.begin()
    except (ApiError, OSError, files.DiskFull, msgspec.DecodeError) as error:
        os.write(ready, f"failed: {error}\n".encode())
        return 1
    os.write(ready, f"ready {','.join(late)}\n".encode())
    os.close(ready)
    why = ""
    while not asked and not why:
        time.sleep(TICK_S)
        recording.tick()
        why = recording.abandoned()
    draining = signal.SIGUSR1 in asked
    if not recording.still_there():
        return 0
    recording.end(why or ("drained" if draining else "stopped"), catch_up=draining)
    if draining:
        recording.hand_over(path.with_name(HANDOVER))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
