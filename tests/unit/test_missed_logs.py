"""Container logs whose recorder ended too early: what is missing comes over the API, each line once."""

import itertools
import time

import pytest

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence import log_lines, missed_logs
from k8s_e2e.evidence.container_log import ContainerLog
from k8s_e2e.evidence.log_lines import Run
from k8s_e2e.platform.kube import ApiError


def at(second, text="line"):
    """A line of a log with its time."""
    return f"2026-01-02T03:04:{second:02}.000000Z", f"{text} {second}"


class Server:
    """Serves the logs of a container's present run and the one before it."""

    def __init__(self, current, previous=None):
        self.logs_of = {False: current, True: previous}

    def logs(self, namespace, pod, container, *, previous, inactivity_s):
        """Answer as the API does: refused where there is none."""
        lines = self.logs_of[previous]
        if lines is None:
            raise ApiError(400, "BadRequest", "previous terminated container not found")
        return iter([f"{time} {text}\n".encode() for time, text in lines])


def pod(restarts=0, *, previous=False):
    """A pod as the API shows it."""
    entry = {"name": "main", "restartCount": restarts, "state": {"running": {}}}
    entry |= {"lastState": {"terminated": {"exitCode": 1}}} if previous else {}
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": {"containerStatuses": [entry]}}


@pytest.fixture
def recorded(tmp_path):
    """The log of run 0 as a recorder has left it when it died: in a burst of one microsecond."""
    log = ContainerLog(tmp_path / "p", "main", Redactor())
    run = Run("p", "main", 0, "u")
    log.begin(run)
    log.write(run, [at(1), at(2, "a"), at(2, "b")])
    log.close()
    return tmp_path


def lines(directory):
    """Return run and text of each line, the runs before the last first; a missed run says so."""
    found = []
    for name in ("main.previous.txt", "main.txt"):
        path = directory / "p" / name
        heads = path.read_text().splitlines() if path.exists() else []
        found += [f"missed {head.split()[2]}" for head in heads if head.endswith(" missed <==")]
        found += [(line.run.number, line.text) for line in log_lines.read(path)]
    return found


WHOLE = [at(1), at(2, "a"), at(2, "b"), at(2, "c"), at(3)]
FIRST = [(0, "line 1"), (0, "a 2"), (0, "b 2")]


def complete(server, which, directory, *, gap=True, **deadline):
    """Complete the logs of a pod."""
    return missed_logs.complete(server, which, directory, Redactor(), gap=gap, **deadline)


def test_the_lines_after_the_last_one_are_added_each_once(recorded):
    """Of a burst within one microsecond only those that are not there yet."""
    assert complete(Server(WHOLE), pod(), recorded) == 0
    assert lines(recorded) == [*FIRST, (0, "c 2"), (0, "line 3")]


def test_a_run_that_followed_meanwhile_is_added_and_the_one_before_it_completed(recorded):
    """The container was started anew while nobody recorded."""
    assert complete(Server([at(8)], WHOLE), pod(1, previous=True), recorded) == 0
    assert lines(recorded) == [*FIRST, (0, "c 2"), (0, "line 3"), (1, "line 8")]


def test_runs_that_nobody_can_read_any_more_are_written_down_as_missed(recorded):
    """In their place: after what was recorded, before what there still is."""
    assert complete(Server([at(8)], [at(6)]), pod(4, previous=True), recorded) == 0
    text = (recorded / "p" / "main.previous.txt").read_text()
    assert [line.split()[2] for line in text.splitlines() if line.startswith("==>")] == [
        "run=0",
        "run=1",
        "run=2",
        "run=3",
    ]
    assert lines(recorded) == ["missed run=1", "missed run=2", *FIRST, (3, "line 6"), (4, "line 8")]


def test_a_log_that_cannot_be_read_counts_and_spoils_nothing(recorded):
    """What was recorded stays; the run that is refused is missed."""
    assert complete(Server(None), pod(1), recorded) == 1
    assert lines(recorded) == ["missed run=1", *FIRST]


def test_without_a_gap_a_recorded_log_is_left_alone(recorded):
    """The recorder has it to its end: nothing is asked for."""
    assert complete(Server(None), pod(), recorded, gap=False) == 0
    assert lines(recorded) == FIRST


def test_without_a_recorder_all_that_there_is_is_fetched(tmp_path):
    """Both runs that the API has, and the one that it no longer has as missed."""
    assert complete(Server([at(8)], [at(6)]), pod(2, previous=True), tmp_path, gap=False) == 0
    assert lines(tmp_path) == ["missed run=0", (1, "line 6"), (2, "line 8")]


def test_after_the_deadline_no_log_is_asked_for(tmp_path):
    """Each counts as failed, and none is called missed: the next collection may get it."""
    assert complete(None, pod(1, previous=True), tmp_path, deadline=time.monotonic()) == 1
    assert list(tmp_path.rglob("*.txt")) == []


class Trickle:
    """Serves a log that goes on and on, never silent for long."""

    def logs(self, *_, inactivity_s, **__):
        """Answer, patient no longer than the deadline allows."""
        assert inactivity_s <= 0.3
        until = time.monotonic() + 20
        return (b"." * 10 for _ in itertools.takewhile(lambda _: time.monotonic() < until, itertools.count()))


def test_a_log_that_trickles_is_given_up_at_the_deadline(tmp_path):
    """However many pieces still come."""
    began = time.monotonic()
    assert complete(Trickle(), pod(), tmp_path, deadline=began + 0.3) == 1
    assert time.monotonic() - began < 10
