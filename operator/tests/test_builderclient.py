"""How the builder is asked, and what is made of a builder that does not answer as it should."""

import base64
import threading
import time
from collections.abc import Iterator

import pytest
from fake_builder import Builder, BuilderHandler, fake_builder
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator import builderclient
from turbo_operator.builderanswer import PollError
from turbo_operator.builderclient import BuilderClient
from turbo_operator.buildersync import BuilderSync
from turbo_operator.settings import SettingsError, load

ONE = spec(component("a"), environment="env-1")


@pytest.fixture
def builder() -> Iterator[Builder]:
    """A builder on loopback."""
    with fake_builder() as server:
        server.say(ONE)
        yield server


def _begin(handler: BuilderHandler, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.close_connection = True


def test_r24_no_more_of_an_answer_is_read_than_is_allowed(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless answer is given up where it becomes too large, not when memory ends."""
    monkeypatch.setattr(builderclient, "_LARGEST_ANSWER", 100_000)
    gone = threading.Event()

    def endless(handler: BuilderHandler) -> None:
        _begin(handler, 10**12)
        try:
            while True:
                handler.wfile.write(b" " * 65536)
        except OSError:
            gone.set()

    builder.steps.append(endless)
    client = BuilderClient(builder.url)
    with pytest.raises(PollError, match="larger than 100000 bytes"):
        client.ask("", 0)
    assert gone.wait(30)
    assert list(client.ask("", 0).graphs) == ["env-1"]  # type: ignore[union-attr]


def test_r06_an_answer_that_drips_is_given_up(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends a byte before each timeout does not hold the sync for ever."""
    monkeypatch.setattr(builderclient, "_GRACE_S", 0.5)
    gone = threading.Event()

    def dripping(handler: BuilderHandler) -> None:
        _begin(handler, 10**6)
        try:
            while not gone.wait(0.1):
                handler.wfile.write(b" ")
        except OSError:
            gone.set()

    builder.steps.append(dripping)
    client = BuilderClient(builder.url)
    with pytest.raises(PollError, match="not complete after"):
        client.ask("", 0)
    assert gone.wait(30)


def test_r15_an_answer_that_breaks_off_is_none(builder: Builder) -> None:
    """What is shorter than announced is an error, also where its part would be an answer of its own."""

    def cut(handler: BuilderHandler) -> None:
        _begin(handler, 1000)
        handler.wfile.write(b'{"graphs": []}')

    builder.steps.append(cut)
    with pytest.raises(PollError):
        BuilderClient(builder.url).ask("", 0)


def test_r06_a_half_open_builder_is_given_up_and_found_again(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing comes any more ends a poll, and the next one takes what the builder has."""
    monkeypatch.setattr(builderclient, "_GRACE_S", 0.3)
    over = threading.Event()

    def silent(handler: BuilderHandler) -> None:
        over.wait(60)
        handler.close_connection = True

    builder.steps += [silent, silent]
    harness, stopping = Harness(RecordingApplier(), start=False), threading.Event()
    sync = BuilderSync(builder.url, 5.0, harness.graphs, harness.writes, harness.actions, stopping, tell=harness._tell)
    sync.start()
    try:
        deadline = time.monotonic() + 60
        while harness.graphs.get("env-1") is None:
            assert time.monotonic() < deadline, "the graph was not taken"
            time.sleep(0.02)
        assert len(builder.requests) >= 3
    finally:
        stopping.set()
        over.set()


def test_credentials_in_the_url_are_sent_and_never_told(builder: Builder) -> None:
    """They go out as basic authentication; errors name the URL without them."""
    url = builder.url.replace("://", "://some%40one:s3cr%C3%A9t@")
    client = BuilderClient(url)
    client.ask("", 0)
    assert builder.requests[-1]["authorization"] == "Basic " + base64.b64encode("some@one:s3crét".encode()).decode()
    builder.status, builder.body = 503, b"away"
    with pytest.raises(PollError) as away:
        client.ask("", 0)
    assert builder.url in str(away.value)
    assert "s3cr" not in str(away.value)
    builder.server_close()
    with pytest.raises(PollError) as unreachable:
        BuilderClient(url).ask("", 0)
    assert "s3cr" not in str(unreachable.value)


@pytest.mark.parametrize(
    "url", ["ftp://me:s3cret@builder", "me:s3cret@builder", "http://me:s3c/ret@", "http://[s3cret"]
)
def test_a_url_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    """The operator does not start, and what it says can be shown to anybody."""
    with pytest.raises(SettingsError, match="BUILDER_URL=") as told:
        load({"BUILDER_URL": url})
    assert "@" not in url or "s3c" not in str(told.value)
