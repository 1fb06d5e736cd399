"""HTTP to the API server: what is told of an answer and of none, connections, timeouts and the token."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_apiserver import FakeApiServer, Handler, answer, cut, fake_apiserver, reset, silent

from turbo_operator.kube import client as client_module
from turbo_operator.kube import package
from turbo_operator.kube.client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ApiError, KubeClient, Unreachable
from turbo_operator.runtime import GRACE_S

KIND = "ConfigMap"


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    """A fake API server on loopback."""
    with fake_apiserver() as running:
        yield running


def test_the_client_tells_an_answer_from_none(server: FakeApiServer) -> None:
    """A refusal is an ApiError with status and reason; a lost answer may have been a write, a refused socket not."""
    client = server.client()
    server.script("list", answer(403, "Forbidden"))
    with pytest.raises(ApiError, match="403 Forbidden: as scripted"):
        client.request("GET", client.path(KIND))
    for fault in (reset, cut, lambda handler: handler.reply(200, {}, Content_Encoding="gzip")):
        server.script("list", fault)
        with pytest.raises(Unreachable) as lost:
            client.request("GET", client.path(KIND))
        assert lost.value.sent
    server.script("list", silent)
    with pytest.raises(Unreachable) as lost:
        client.request("GET", client.path(KIND), read_timeout_s=0.2)
    assert lost.value.sent
    configuration = package.configuration_class()()
    configuration.host = "http://127.0.0.1:1"
    with pytest.raises(Unreachable) as refused:
        KubeClient(configuration, "ns").request("GET", "/")
    assert not refused.value.sent


def test_r23_whatever_is_sent_before_sigterm_ends_within_the_grace() -> None:
    """Connecting and waiting for an answer take less than the time for writes in flight, with half a second to tell."""
    assert CONNECT_TIMEOUT_S + READ_TIMEOUT_S + 0.5 <= GRACE_S


@pytest.mark.parametrize(("asked", "heeded"), [(2, 2), (60, 60), (86_400, 60)])
def test_r06_no_retry_after_makes_the_operator_wait_for_more_than_a_minute(
    server: FakeApiServer, asked: int, heeded: int
) -> None:
    """A pause that is asked for is heeded up to a minute: what recovers is found again within 75 s."""
    server.script("list", answer(429, retry_after_s=asked))
    client = server.client()
    with pytest.raises(ApiError) as refused:
        client.request("GET", client.path(KIND))
    assert refused.value.retry_after_s == heeded


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_r06_where_one_connection_is_silent_the_idle_ones_are_not_tried(server: FakeApiServer, verb: str) -> None:
    """After a time-out a request takes a new connection: behind a cut each kept one would cost another time-out."""
    client = server.client()
    path = client.path(KIND)
    both = threading.Barrier(2)

    def two_at_once() -> set[int]:
        """The local ports that two requests come from."""
        ports: set[int] = set()

        def told(handler: Handler) -> None:
            ports.add(handler.client_address[1])
            both.wait(10)

        server.script("list", told, told)
        threads = [threading.Thread(target=client.request, args=("GET", path)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ports

    kept = two_at_once()
    assert two_at_once() == kept
    server.script(verb, silent)
    ask: dict[str, Callable[[], object]] = {
        "list": lambda: client.request("GET", path, read_timeout_s=0.2),
        "watch": lambda: list(client.stream(path, {"watch": "true"}, silence_s=0.2)),
    }
    with pytest.raises(Unreachable):
        ask[verb]()
    assert not two_at_once() & kept


def test_r06_a_token_that_is_renewed_is_used(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kubelet renews a pod's token in its file: it is read again within minutes, long before the old one ends."""
    incluster = package.incluster_module()
    now_s = 0.0
    epoch = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    clock = SimpleNamespace(now=lambda: epoch + dt.timedelta(seconds=now_s))
    monkeypatch.setattr(incluster, "datetime", SimpleNamespace(datetime=clock, timedelta=dt.timedelta))
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    token, certificate = tmp_path / "token", tmp_path / "ca.crt"
    monkeypatch.setattr(incluster, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(certificate))
    certificate.write_text("x")
    token.write_text("first")
    configuration = package.configuration_class()()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    package.load_incluster_config(configuration)
    configuration.host, configuration.ssl_ca_cert = server.url, None
    client = KubeClient(configuration, "fake")
    used: list[str | None] = []
    server.script("list", *[lambda handler: used.append(handler.headers["Authorization"])] * 2)
    client.request("GET", client.path(KIND))
    token.write_text("second")
    now_s = 90.0
    client.request("GET", client.path(KIND))
    assert used == ["bearer first", "bearer second"]
