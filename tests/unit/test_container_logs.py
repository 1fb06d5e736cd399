"""Container logs: the runtime's format, the node's files over rotation, restart and deletion, and what is written."""

import gzip
import shutil
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s_e2e.base.redaction import Redactor
from k8s_e2e.evidence import log_lines, service_logs
from k8s_e2e.evidence.caps import CUT, CappedFile, append_capped
from k8s_e2e.evidence.container_log import ContainerLog
from k8s_e2e.evidence.cri import CriDecoder
from k8s_e2e.evidence.log_lines import Run
from k8s_e2e.evidence.node_logs import NodeLogs
from k8s_e2e.evidence.pods import Pod

UID = "0b54-uid"


def at(second: int) -> str:
    """Return a time as the kit writes it."""
    return f"2026-01-02T03:04:{second:02}.000000Z"


def cri(second: int, text: str, tag: str = "F", stream: str = "stdout") -> str:
    """Return a line as the runtime writes it."""
    return f"2026-01-02T03:04:{second:02}.000000000Z {stream} {tag} {text}\n"


def test_pieces_of_a_long_line_are_put_together_per_stream():
    """P pieces wait for their F, also when the other stream speaks in between."""
    decoder = CriDecoder()
    data = cri(1, "one ", "P") + cri(2, "err", stream="stderr") + cri(3, "two")
    assert decoder.feed(data.encode()) == [(at(2), "err"), (at(1), "one two")]
    decoder.feed(cri(4, "cut", "P").encode())
    assert decoder.flush() == [(at(4), "cut")]


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=40)), st.data())
def test_lines_survive_any_cut_between_reads(texts, data):
    """However a file's bytes are cut into reads, the same lines come out."""
    raw = "".join(cri(1, text) for text in texts).encode()
    decoder = CriDecoder()
    found = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        found += decoder.feed(raw[:size])
        raw = raw[size:]
    assert [(at(1), text) for text in texts] == found


def test_what_is_not_the_runtimes_format_is_kept_as_it_is():
    """A foreign line loses its time, not its text."""
    assert CriDecoder().feed(b"plain words\n\xff\n") == [("", "plain words"), ("", "\ufffd")]


@pytest.fixture
def node(tmp_path):
    """A pod's directory on a node, and a follower of its namespace."""

    class Node:
        root = tmp_path / "pods"
        directory = root / f"shop_web-1_{UID}" / "app"
        out = tmp_path / "logs"
        notes: ClassVar[list[str]] = []

        def follower(self) -> NodeLogs:
            return NodeLogs(self.root, "shop", self.out, Redactor(), lambda event, **fields: self.notes.append(event))

        def texts(self, name: str) -> list[tuple[int, str]]:
            return [(line.run.number, line.text) for line in log_lines.read(self.out / "web-1" / name)]

    Node.directory.mkdir(parents=True)
    return Node()


def test_a_restart_moves_the_old_run_to_previous_and_loses_nothing(node):
    """Lines that a run wrote right before its end are read although its file is gone by then."""
    follower = node.follower()
    (node.directory / "0.log").write_text(cri(1, "first"))
    follower.tick()
    with (node.directory / "0.log").open("a") as stream:
        stream.write(cri(2, "last words"))
    (node.directory / "1.log").write_text(cri(3, "again"))
    (node.directory / "0.log").unlink()
    follower.tick()
    (node.directory / "2.log").write_text(cri(4, "third"))
    follower.close()
    assert node.texts("app.previous.txt") == [(0, "first"), (0, "last words"), (1, "again")]
    assert node.texts("app.txt") == [(2, "third")]


def test_rotation_keeps_every_line_in_order(node):
    """A renamed file is read to its end before the new one."""
    follower = node.follower()
    current = node.directory / "0.log"
    current.write_text(cri(1, "a"))
    follower.tick()
    with current.open("a") as stream:
        stream.write(cri(2, "b"))
        current.rename(node.directory / "0.log.20260102-030405")
        (node.directory / "0.log").write_text(cri(4, "d"))
        stream.write(cri(3, "c"))
    follower.close()
    assert node.texts("app.txt") == [(0, "a"), (0, "b"), (0, "c"), (0, "d")]


def test_a_late_follower_takes_rotated_files_and_names_lost_runs(node):
    """What was rotated before is read, compressed or not; a run whose file is gone is written down as missed."""
    (node.directory / "1.log.20260102-030401.gz").write_bytes(gzip.compress(cri(1, "a").encode()))
    (node.directory / "1.log.20260102-030402").write_text(cri(2, "b"))
    (node.directory / "1.log").write_text(cri(3, "c"))
    node.follower().close()
    assert node.texts("app.txt") == [(1, "a"), (1, "b"), (1, "c")]
    assert "run=0" in (node.out / "web-1" / "app.previous.txt").read_text()
    assert node.notes == ["log.missed"]


def test_a_deleted_pods_last_lines_are_read(node):
    """An open file outlives its directory."""
    follower = node.follower()
    with (node.directory / "0.log").open("w") as stream:
        stream.write(cri(1, "up"))
        stream.flush()
        follower.tick()
        stream.write(cri(2, "killed"))
    shutil.rmtree(node.root / f"shop_web-1_{UID}")
    follower.close()
    assert node.texts("app.txt") == [(0, "up"), (0, "killed")]


def test_a_second_follower_goes_on_where_the_first_was_killed(node):
    """Nothing is written twice, and the earlier runs stay where they are."""
    (node.directory / "0.log").write_text(cri(1, "zero"))
    (node.directory / "1.log").write_text(cri(2, "one"))
    killed = node.follower()
    killed.tick()
    with (node.directory / "1.log").open("a") as stream:
        stream.write(cri(3, "one more"))
    node.follower().close()
    assert node.texts("app.previous.txt") == [(0, "zero")]
    assert node.texts("app.txt") == [(1, "one"), (1, "one more")]
    killed.close()


def test_other_namespaces_are_left_alone(node):
    """Only the pods of the namespace are followed, also where another one begins with its name."""
    other = node.root / f"shop-two_web_{UID}" / "app"
    other.mkdir(parents=True)
    (other / "0.log").write_text(cri(1, "not ours"))
    node.follower().close()
    assert not (node.out / "web").exists()


def test_pods_that_ended_before_our_time_are_left_out(node):
    """Files of an earlier namespace of the same name are not this run's; what comes later is."""
    (node.directory / "0.log").write_text(cri(1, "stale"))
    follower = node.follower()
    follower.leave_out(lambda uid: False)
    later = node.root / "shop_web-1_another-uid" / "app"
    later.mkdir(parents=True)
    (later / "0.log").write_text(cri(2, "ours"))
    follower.close()
    assert node.texts("app.txt") == [(0, "ours")]


def test_secrets_are_replaced_before_they_are_written(tmp_path):
    """A known value never reaches the file."""
    log = ContainerLog(tmp_path, "app", Redactor({"db": "hunter2hunter2"}))
    run = Run("web-1", "app", 0, UID)
    log.begin(run)
    log.write(run, [(at(1), "login with hunter2hunter2")])
    log.close()
    assert "hunter2" not in (tmp_path / "app.txt").read_text()
    assert "[redacted:db:" in (tmp_path / "app.txt").read_text()


def test_headers_and_lines_are_read_back():
    """What the header says of a run comes back, and every line has its time and number."""
    run = Run("web-1", "app", 3, UID, missed=True)
    assert log_lines.parse_header(log_lines.header(run)) == run
    assert log_lines.parse_header("==> something else <==") is None
    text = [log_lines.header(run) + "\n", f"{at(1)} one\n", "no time\n"]
    assert list(log_lines.parse(text)) == [(2, at(1), "one", run), (3, "", "no time", run)]


def test_a_file_beyond_its_cap_keeps_head_and_tail_and_says_what_is_cut(tmp_path):
    """Head, a line with the number of missing bytes, tail: together they are what was written."""
    file = CappedFile(tmp_path / "a.txt", head=100, tail=100)
    written = b"".join(b"line %04d\n" % number for number in range(200))
    for line in written.splitlines(keepends=True):
        file.write(line)
    file.close()
    kept = (tmp_path / "a.txt").read_bytes()
    cut = CUT.search(kept)
    head, tail = kept[: cut.start()], kept[cut.end() + 1 :]
    assert written.startswith(head)
    assert written.endswith(tail)
    assert len(head) + int(cut[1]) + len(tail) == len(written)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_copy_is_cut_at_line_ends(tmp_path):
    """No half line on either side of the cut, and the missing bytes are counted."""
    written = b"".join(b"line %04d\n" % number for number in range(100))
    (tmp_path / "a.txt").write_bytes(written)
    missing = append_capped(tmp_path / "a.txt", tmp_path / "out.txt", head=55, tail=55)
    lines = (tmp_path / "out.txt").read_bytes().splitlines()
    assert lines[:5] == [b"line %04d" % number for number in range(5)]
    assert lines[5] == b"[k8s-e2e: %d bytes cut here]" % missing
    assert lines[-5:] == [b"line %04d" % number for number in range(95, 100)]
    assert missing == len(written) - 100


def test_a_services_logs_are_one_file_oldest_pod_and_run_first(tmp_path):
    """Pods of one service are joined in the order they appeared, each container's earlier runs before its last."""
    for pod, name, text in (
        ("web-b", "app.txt", "1\n"),
        ("web-b", "app.previous.txt", "0\n"),
        ("web-a", "app.txt", "2\n"),
        ("db-x", "db.txt", "3\n"),
    ):
        (tmp_path / "logs" / pod).mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / pod / name).write_text(text)
    pods = [Pod("web-b", "1", "web"), Pod("web-a", "2", "web")]
    assert service_logs.write(tmp_path / "logs", tmp_path, pods) == 2
    assert (tmp_path / "logs-web.txt").read_text() == "0\n1\n2\n"
    assert (tmp_path / "logs-db-x.txt").read_text() == "3\n"
