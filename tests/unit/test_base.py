"""The base layer: clock, wait, files, programs, redaction."""

import base64
import errno
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s_e2e.base import clock, files, journal, process, tether
from k8s_e2e.base.errors import Interrupted, UsageError, WaitTimeout
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.base.wait import Pending, wait_for


@given(st.floats(min_value=0, max_value=4e9))
def test_times_survive_writing_and_reading(epoch_s):
    """A time written and read again is the same to the microsecond."""
    assert abs(clock.epoch(clock.rfc3339(epoch_s)) - epoch_s) < 2e-6


@pytest.mark.parametrize(
    ("given_text", "normal"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T05:04:05.5+02:00", "2026-01-02T03:04:05.500000Z"),
    ],
)
def test_foreign_times_are_read(given_text, normal):
    """Nanoseconds, offsets and absent fractions become the kit's own form."""
    assert clock.normal(given_text) == normal


def test_a_wait_ends_with_the_first_value():
    """A wait returns what the probe returns, and hears of each state once."""
    answers = iter([Pending("a"), Pending("a"), Pending("b"), "there"])
    states: list[str] = []
    assert wait_for("it", lambda: next(answers), timeout_s=5, interval_s=0, on_state=states.append) == "there"
    assert states == ["a", "b"]


def test_a_wait_that_fails_says_what_it_saw_last():
    """When the deadline passes, the error names what was waited for and the last state."""
    with pytest.raises(WaitTimeout, match=r"waited 0.05 s for a pod; last seen: 0/1 nodes available"):
        wait_for("a pod", lambda: Pending("0/1 nodes available"), timeout_s=0.05, interval_s=0.01)


def test_a_write_is_whole_or_absent(tmp_path, monkeypatch):
    """A write that fails leaves the old file and no debris."""
    target = tmp_path / "file"
    files.write(target, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(files.DiskFull, match="no space left while writing"):
        files.write(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_with_credentials_are_private(tmp_path):
    """The mode asked for is the mode on disk."""
    files.write(tmp_path / "kubeconfig", "x", mode=0o600)
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600


def test_a_cut_last_line_is_left_out(tmp_path):
    """Lines written before a kill are read; the half line at the end is not."""
    path = tmp_path / "x.jsonl"
    lines = files.Lines(path)
    lines.append({"n": 1})
    lines.close()
    with path.open("a") as stream:
        stream.write('{"n": 2')
    assert list(files.read_lines(path)) == [{"n": 1}]


def test_a_failed_program_tells_its_last_words():
    """The error of a failed program holds its name, exit code and output."""
    with pytest.raises(process.ProgramFailed, match=r"sh -c .* exited with 3: no such thing"):
        process.run(["sh", "-c", "echo no such thing >&2; exit 3"], timeout_s=5)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    """The whole process group dies at the deadline."""
    noted = tmp_path / "pid"
    with pytest.raises(process.ProgramFailed, match=r"did not end within 5 s"):
        process.run(["sh", "-c", f"sleep 7654 & echo $! > {noted}; wait"], timeout_s=5)
    child = Path("/proc") / noted.read_text().strip() / "stat"

    def ended():
        try:
            state = child.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state == "Z" or Pending(f"state {state}")

    assert wait_for("the child's end", ended, timeout_s=10)


def test_a_grandchild_that_holds_the_output_holds_up_nobody(tmp_path, monkeypatch):
    """A process that left the group keeps the pipe open; the program is given up in time all the same."""
    monkeypatch.setattr(process, "_PIPES_CLOSED_S", 0.2)
    noted = tmp_path / "pid"
    hang = f"echo $$ > {noted}; exec sleep 60"
    began = time.monotonic()
    try:
        with pytest.raises(process.ProgramFailed, match=r"did not end within 3 s"):
            process.run(["sh", "-c", f"setsid sh -c '{hang}' & sleep 60"], timeout_s=3)
        assert time.monotonic() - began < 30
    finally:
        os.kill(int(noted.read_text()), signal.SIGKILL)


def test_a_full_disk_is_told_wherever_a_file_is_opened(tmp_path, monkeypatch):
    """A line file and the log of a program say that there is no room, not that something went wrong."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(files.DiskFull, match=r"no space left while writing .*x\.jsonl"):
        files.Lines(tmp_path / "x.jsonl")
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(files.DiskFull, match=r"no space left while writing .*log"):
        process.run(["true"], timeout_s=5, log=tmp_path / "log")


@pytest.mark.parametrize(
    "error",
    [files.DiskFull("no space left"), OSError(errno.EBADF, "closed"), UnicodeEncodeError("utf-8", "", 0, 1, "")],
)
def test_a_log_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch, capsys, error):
    """Saying what is being done never fails, and says nothing of its own."""

    def fail(*_):
        raise error

    with journal.opened(tmp_path / "kit.jsonl"):
        monkeypatch.setattr(files.Lines, "append", fail)
        journal.progress("at work")
    assert capsys.readouterr().err == ""


def test_a_program_that_is_absent_is_named():
    """A program that cannot be started is named, with the way to find out what is missing."""
    with pytest.raises(process.ProgramFailed, match=r"cannot start no-such-program") as caught:
        process.run(["no-such-program"], timeout_s=1)
    assert "doctor" in caught.value.hint


@given(st.text(min_size=6, max_size=30).filter(lambda text: not text.isspace() and "redacted" not in text))
def test_known_secrets_are_gone_in_every_form(secret):
    """Plain, base64 and URL-encoded forms of a known secret do not pass."""
    raw = secret.encode("utf-8", "surrogatepass")
    try:
        secret.encode()
    except UnicodeEncodeError:
        return
    redactor = Redactor({"db": secret})
    for form in (secret, base64.b64encode(raw).decode(), urllib.parse.quote(secret, safe="")):
        assert form not in redactor.text(f"<<{form}>>").replace("[redacted:db:", "")
    assert redactor.counts["db"] >= 2


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefghijklmnop",
        "postgres://admin:hunter2hunter2@db/x",
        "DB_PASSWORD=hunter2hunter2",
        '{"apiKey": "hunter2hunter2"}',
    ],
)
def test_secret_looking_text_is_replaced(text):
    """Tokens and passwords are replaced although nobody named them."""
    redacted = Redactor().text(text)
    assert "hunter2hunter2" not in redacted
    assert "abcdefghijklmnop" not in redacted
    assert "[redacted:" in redacted


def test_of_two_secrets_that_overlap_nothing_is_left():
    """The longer one wins where both begin, and the rest of one that begins within another goes with it."""
    redactor = Redactor({"a": "abcdefgh", "b": "abcdefghij", "c": "efghijklmn"})
    assert redactor.text("-abcdefghij-").startswith("-[redacted:b:")
    text = redactor.text("-abcdefghijklmn-")
    assert text.startswith("-[redacted:b:")
    assert text.endswith("]-")
    assert "klmn" not in text


def test_redacting_again_changes_nothing():
    """A token is left alone, though its name holds a secret's value or looks like one."""
    redactor = Redactor({"db/password": "password", "x": "hunter2hunter2"}, salt=b"s")
    once = redactor.text("login: password hunter2hunter2 token=abcdefgh\n")
    assert redactor.text(once) == once


ELSEWHERE = """
import runpy, signal, sys
del signal.SIGRTMIN, signal.SIGRTMAX
sys.platform = "darwin"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_tether_runs_programs_where_there_are_no_real_time_signals():
    """On macOS nobody tells of a parent that ended: the program runs all the same, and its exit code comes back."""
    argv = [sys.executable, "-c", ELSEWHERE, tether.__file__, str(os.getpid()), "sh", "-c", "echo it ran; exit 7"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "it ran\n", "")


def test_a_redacted_json_text_is_still_json():
    """An escaped quote right behind what looks like a password is not torn."""
    text = json.dumps({"msg": 'password=hunter2hunter2"', "more": "api_key=hunter2hunter2\\"})
    redacted = Redactor().text(text)
    assert "hunter2hunter2" not in redacted
    assert set(json.loads(redacted)) == {"msg", "more"}


def test_ordinary_text_is_left_alone():
    """Words that only look near a secret stay."""
    text = "secretName: registry-tls\ntoken bucket is empty; 3 secrets listed"
    assert Redactor().text(text) == text


def test_every_error_has_an_exit_code():
    """Usage is 2, a signal is 128 + its number and no error that anything could handle."""
    assert UsageError("x").exit_code == 2
    assert Interrupted(signal.SIGTERM).exit_code == 143
    assert not issubclass(Interrupted, Exception)
    assert str(UsageError("what", hint="do that")) == "what; do that"
