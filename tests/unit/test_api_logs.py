"""Container logs over the API: what a lagging status and a cut line must not do to them."""

from collections.abc import Iterator
from typing import Any

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.evidence import log_lines
from k8s_e2e.evidence.api_logs import ApiLogs


class Stream:
    """One answer of the server, in pieces."""

    def __init__(self, *texts: str) -> None:
        self._pieces = [f"{text}\n".encode() for text in texts]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """End it."""


class Server:
    """Answers with these logs and these pods, in order; the last pod goes on for ever."""

    def __init__(self, logs: list[Stream], pods: list[dict[str, Any]], previous: Stream | None = None) -> None:
        self.logs_left, self._pods, self._previous = logs, pods, previous

    def logs(self, *_: Any, previous: bool = False, **__: Any) -> Stream | None:
        """Return the next log."""
        return self._previous if previous else self.logs_left.pop(0)

    def get(self, *_: Any) -> dict[str, Any]:
        """Return the next pod."""
        return self._pods.pop(0) if len(self._pods) > 1 else self._pods[0]


def pod(run: int, state: str = "running") -> dict[str, Any]:
    """Return a pod whose container is in this run."""
    status = {"name": "main", "restartCount": run, "state": {state: {}}}
    return {"metadata": {"name": "p", "uid": "u"}, "status": {"containerStatuses": [status]}}


def recorded(server: Server, tmp_path) -> list[tuple[int, str]]:
    """Follow the first run to its end and return what was written: run and text of each line."""
    logs = ApiLogs(server, "n", tmp_path, Redactor())  # type: ignore[arg-type]
    logs.see(pod(0))
    wait_for("the end", lambda: not any(one.is_alive() for one in logs._threads) or Pending("follows"), timeout_s=10)
    logs.close()
    return [(line.run.number if line.run else -1, line.text) for line in log_lines.read(tmp_path / "p" / "main.txt")]


def line(nanosecond: int, text: str) -> str:
    """Return a line with its time as the kubelet sends it."""
    return f"2026-01-02T03:04:05.{nanosecond:09}Z {text}"


def test_lines_of_one_microsecond_are_all_kept(tmp_path):
    """A burst is written faster than the clock of the record ticks."""
    server = Server([Stream(line(1, "a"), line(2, "b"), line(3, "c"))], [pod(0, "terminated")])
    assert recorded(server, tmp_path) == [(0, "a"), (0, "b"), (0, "c")]


def test_a_cut_line_is_taken_up_where_it_broke(tmp_path):
    """After a cut the server sends the log from its beginning; nothing is lost and nothing twice."""
    whole = [line(1, "a"), line(2, "b"), line(3, "c"), line(4000, "d")]
    server = Server([Stream(*whole[:2]), Stream(*whole)], [pod(0), pod(0, "terminated")])
    assert recorded(server, tmp_path) == [(0, "a"), (0, "b"), (0, "c"), (0, "d")]


def test_a_status_that_is_behind_does_not_give_a_run_the_lines_of_the_next(tmp_path):
    """The first run is over, its status does not say so yet, and the log that answers is the second one's."""
    first = Stream(line(1000, "one"), line(2000, "its last words"))
    logs = [Stream(line(1000, "one")), Stream(line(9000, "two"))]
    server = Server(logs, [pod(0), pod(0), pod(1)], previous=first)
    assert recorded(server, tmp_path) == [(0, "one"), (0, "its last words")]
    assert server.logs_left == []
