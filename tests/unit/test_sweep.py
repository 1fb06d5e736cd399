"""What was written before a value was known to be a secret: looked through once more, and replaced."""

import base64
import json

import pytest

from k8s_e2e.base import journal
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.evidence.sweep import sweep
from k8s_e2e.model.layout import RunDir

CANARY = 'canary-"quoted"-value-9f2c'
B64 = base64.b64encode(CANARY.encode()).decode()


@pytest.fixture
def cleaner():
    """A cleaner that has learnt the canary from a Secret."""
    cleaner = Cleaner(b"salt")
    cleaner.learn({"kind": "Secret", "metadata": {"name": "db"}, "data": {"password": B64}})
    return cleaner


@pytest.fixture
def run(tmp_path):
    """A run whose stages have written the canary wherever they can."""
    run = RunDir.claim(tmp_path / "run")
    entry = json.dumps({"msg": f"with {CANARY}, {B64}", "url": "http://x/?token=abcdefgh"})
    for name in ("requests.jsonl", "k8s/history.jsonl", "k8s/events.jsonl", "logs/kit.jsonl", "logs/recorder.jsonl"):
        run.path(name).parent.mkdir(parents=True, exist_ok=True)
        run.path(name).write_text(f'{{"n": 1}}\n{entry}\n{{"cut": "in the {json.dumps(CANARY)[1:-1]}')
    for name in ("run.json", "k8s-e2e-results.json", "traces.json", "screenshots/a.json", "notebooks/test.ipynb"):
        run.path(name).parent.mkdir(parents=True, exist_ok=True)
        run.path(name).write_text(json.dumps({"a": [CANARY, B64], "n": json.dumps({"b": B64})}, indent=1))
    for name in ("k8s/logs/a/b.txt", "logs/build-a.txt", "notebooks/test.md", "k8s/resources.txt"):
        run.path(name).parent.mkdir(parents=True, exist_ok=True)
        run.path(name).write_bytes(b"bad \xff byte\n" + f"password is {CANARY}\nbase64 {B64}\nlast".encode())
    return run


def held(run):
    """Return the files that hold the canary in any form."""
    forms = [CANARY.encode(), json.dumps(CANARY)[1:-1].encode(), B64.encode()]
    files = (path for path in run.root.rglob("*") if path.is_file())
    return sorted(path.name for path in files if any(form in path.read_bytes() for form in forms))


def test_no_file_holds_a_known_value_afterwards(run, cleaner):
    """Each becomes the Secret's own token; JSON stays JSON, lines stay lines, other bytes stay as they are."""
    assert len(held(run)) == 14
    assert sweep(run, cleaner) == 14
    assert held(run) == []
    token = cleaner.redactor.text(CANARY)
    assert json.loads(run.results.read_text()) == {"a": [token, token], "n": json.dumps({"b": token})}
    assert run.path("k8s/logs/a/b.txt").read_bytes() == (
        b"bad \xff byte\n" + f"password is {token}\nbase64 {token}\nlast".encode()
    )
    lines = run.history.read_text().split("\n")
    assert lines[0] == '{"n": 1}'
    assert json.loads(lines[1])["msg"] == f"with {token}, {token}"
    assert sweep(run, cleaner) == 0


def test_requests_and_builds_are_searched_for_what_looks_like_a_secret_too(run, cleaner):
    """Nobody redacts a URL before it is sent and written, nor what a build says."""
    build = run.path("logs/build-b.txt")
    build.write_text("ARG api_key=abcdefgh\n")
    sweep(run, cleaner)
    assert build.read_text() == cleaner.redactor.text("ARG api_key=abcdefgh\n")
    assert "abcdefgh" not in build.read_text()
    assert "abcdefgh" not in run.requests.read_text()
    assert "abcdefgh" in run.history.read_text()


def test_the_kits_log_may_be_written_and_followed_meanwhile(run, cleaner):
    """Stars of the same length: who appends and who reads on loses nothing."""
    size = run.kit_log.stat().st_size
    with journal.opened(run.kit_log):
        journal.progress("before")
        with run.kit_log.open("rb") as follower:
            follower.seek(size)
            sweep(run, cleaner)
            journal.progress("after")
            told = follower.read()
    assert told.count(b"\n") == 2
    assert b"after" in told
    assert "kit.jsonl" not in held(run)


def test_a_file_without_a_secret_is_not_touched(run, cleaner):
    """What was sealed before stays the same file."""
    clean = run.path("k8s/clean.txt")
    clean.write_text("nothing here\n")
    before = clean.stat()
    sweep(run, cleaner)
    assert clean.stat() == before
    assert not list(run.root.rglob(".*"))


def test_the_kits_log_gets_no_secret_in_the_first_place(run, cleaner):
    """Neither what looks like one, nor a value that the stage has learnt, nor either in a traceback."""
    run.kit_log.unlink()
    with journal.opened(run.kit_log):
        journal.progress("password=abcdefgh")
        journal.redact(cleaner.redactor)
        journal.progress(f"it is {CANARY}")
    text = run.kit_log.read_text()
    assert "abcdefgh" not in text
    assert json.loads(text.splitlines()[1])["msg"] == f"it is {cleaner.redactor.text(CANARY)}"
