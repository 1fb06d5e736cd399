"""Completing container logs over the API: those that no recorder has followed, and what came after it died."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence.api_logs import RunState, container_runs, read_lines
from k8s_e2e.evidence.container_log import ContainerLog
from k8s_e2e.platform.kube import ApiError, Kube

ENDPOINT_S = 10.0  # one log that hangs costs this


def complete(
    kube: Kube, pod: dict[str, Any], out: Path, redactor: Redactor, *, gap: bool, deadline: float = float("inf")
) -> int:
    """Fetch what is missing of the logs of ``pod`` under ``out``; returns how many could not be read.

    A container that has a log is left alone, unless there is a ``gap``: the recorder ended too early. Then the lines
    after its last one are added, and the runs since; a run that nobody can read any more is written down as missed.
    From ``deadline`` (monotonic seconds) on no log is asked for: each counts as one that could not be read.
    """
    failed = 0
    for state in container_runs(pod):
        directory = out / state.run.pod
        if gap or not (directory / f"{state.run.container}.txt").exists():
            if time.monotonic() >= deadline:
                failed += 1
                continue
            log = ContainerLog(directory, state.run.container, redactor)
            failed += _rest(kube, str(pod["metadata"].get("namespace", "")), state, log, deadline)
            log.close()
    return failed


def _rest(kube: Kube, namespace: str, state: RunState, log: ContainerLog, deadline: float) -> int:
    run, last = state.run, log.last
    seen = last.number if last and last.uid == run.uid else -1
    failed, next_number = 0, seen + 1
    for number, there in ((run.number - 1, state.has_previous), (run.number, state.started)):
        if not there or number < seen:
            continue
        each = run._replace(number=number)
        try:
            patience = min(ENDPOINT_S, max(0.1, deadline - time.monotonic()))
            stream = kube.logs(namespace, run.pod, run.container, previous=number < run.number, inactivity_s=patience)
            lines = read_lines(_until(deadline, stream))
        except ApiError:
            failed += 1
            continue
        log.begin(each)  # what was there moves to the previous file: then come the runs in between
        for missed in range(next_number, number):
            log.miss(run._replace(number=missed))
        next_number = number + 1
        log.write(each, lines)
    for missed in range(next_number, run.number + state.started):
        log.miss(run._replace(number=missed))
    return failed


def _until(deadline: float, stream: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a log; one that trickles is given up at the deadline."""
    for piece in stream:
        if time.monotonic() >= deadline:
            raise ApiError(0, "", "the log was not read by the deadline of the collection")
        yield piece
