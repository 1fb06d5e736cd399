"""Errors of the API server, and of what stands before it, as the operator takes them."""

import queue
import threading
from typing import Any

import pytest
from fake_apiserver import fake_apiserver

from turbo_operator import metrics
from turbo_operator.graphs import GraphChange, GraphWriteError
from turbo_operator.kube.client import ApiError, KubeClient
from turbo_operator.kube.graphs import EventRecorder, KubernetesGraphs


class Client:
    """Fails as a test wants, then answers; remembers what it was sent."""

    namespace = "ns"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sent: queue.Queue[Any] = queue.Queue()

    def path(self, kind: str, name: str | None = None, subresource: str | None = None) -> str:
        """Any path will do."""
        return f"/{kind}/{name}/{subresource}"

    def request(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The next error, or an empty answer."""
        self.sent.put((method, path, more.get("body")))
        if self.errors:
            raise self.errors.pop(0)
        return {}


@pytest.mark.parametrize(
    "error",
    [
        ApiError(413, "RequestEntityTooLarge", "limit is 3145728"),
        ApiError(500, "", "etcdserver: request is too large"),
        ApiError(500, "", "rpc error: code = ResourceExhausted desc = trying to send message larger than max"),
    ],
    ids=["API server", "etcd", "client of etcd"],
)
def test_a_graph_that_is_too_large_is_refused_for_good(error: ApiError) -> None:
    """Size is no outage: the answer is 413, which nobody repeats every second."""
    change = GraphChange("Create", {"metadata": {"name": "env-1"}})
    made = KubernetesGraphs(Client(error)).write(change)  # type: ignore[arg-type]
    assert (made.outcome, made.http_status, made.refused) == ("failed", 413, True)
    told = GraphWriteError.of(change, made)
    assert (told.status, told.code) == (413, "too_large")
    graph = {"metadata": {"name": "env-1", "uid": "u", "resourceVersion": "7"}}
    result = KubernetesGraphs(Client(error)).write_status(graph, {})  # type: ignore[arg-type]
    assert (result.outcome, result.http_status) == ("failed", 413)


def _counted() -> dict[str, float]:
    """Events so far, by what became of them."""
    return {outcome: metrics.EVENTS.labels(outcome=outcome)._value.get() for outcome in ("posted", "failed", "dropped")}


_GRAPH = {"metadata": {"name": "env-1", "uid": "u"}}


def test_events_go_on_after_an_error_and_are_counted() -> None:
    """Whatever happens to one Event, the next one is posted; a metric tells how many were not."""
    before = _counted()
    client, stopping = Client(ValueError("unforeseen"), ApiError(403, "Forbidden", "no")), threading.Event()
    recorder = EventRecorder(client, stopping)  # type: ignore[arg-type]
    recorder.start()
    for reason in ("First", "Second", "Third"):
        recorder.tell(_GRAPH, "Normal", reason, "", 0.0)
        assert client.sent.get(timeout=10)[2]["reason"] == reason
    stopping.set()
    recorder.join(10)
    assert not recorder.is_alive()
    assert _counted() == {**before, "posted": before["posted"] + 1, "failed": before["failed"] + 2}


def test_events_without_room_are_counted() -> None:
    """A queue that is full, for the API server is away, loses Events and says how many."""
    before = _counted()
    recorder = EventRecorder(Client(), threading.Event())  # type: ignore[arg-type]
    for _ in range(502):
        recorder.tell(_GRAPH, "Normal", "Applied", "", 0.0)
    assert _counted() == {**before, "dropped": before["dropped"] + 2}


@pytest.mark.parametrize(
    "document",
    [[], {"details": "none"}, {"details": {"causes": "x", "retryAfterSeconds": "soon"}}, {"details": {"causes": [1]}}],
)
def test_an_error_of_any_form_is_an_error(document: Any) -> None:
    """What a proxy says in place of the API server is told by its status, and breaks nothing."""
    with fake_apiserver() as server:
        client: KubeClient = server.client()
        server.script("list", lambda handler: handler.reply(502, document, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"))
        with pytest.raises(ApiError) as told:
            client.request("GET", client.path("ConfigMap"))
    assert (told.value.status, told.value.retry_after_s, told.value.causes[1:]) == (502, None, ())


def test_retry_after_is_read_from_header_and_body() -> None:
    """Whole seconds, wherever they stand."""
    with fake_apiserver() as server:
        client = server.client()
        server.script(
            "list",
            lambda handler: handler.reply(429, {}, Retry_After="7"),
            lambda handler: handler.reply(429, {"details": {"retryAfterSeconds": 9}}),
        )
        told = []
        for _ in range(2):
            with pytest.raises(ApiError) as error:
                client.request("GET", client.path("ConfigMap"))
            told.append(error.value.retry_after_s)
    assert told == [7.0, 9.0]
