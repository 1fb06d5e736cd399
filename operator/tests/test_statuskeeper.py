"""The keeper of statuses: what it publishes is never older than what it published, and what it writes gets there."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.core.desired import Object, ObjectKey
from turbo_operator.core.graph import Graph, Refusal


@pytest.fixture
def harness() -> Iterator[Harness]:
    """A running reconciler; the keeper's threads are started by the tests that need them."""
    running = Harness(RecordingApplier())
    for store in running.stores.values():
        store.listener = running.reconciler.observe
    running.reconciler.changed = running.statuses.changed
    yield running
    running.statuses.stop()
    running.stop()


def _until(what: str, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def _settled(harness: Harness) -> Object:
    """An APIGraph whose objects are all written."""
    name = harness.put(spec(component()))
    harness.reconciler.request(name).result(10)
    obj = harness.graphs.get(name)
    assert obj is not None
    return obj


def _lose_replicas(harness: Harness) -> None:
    deployment = harness.stores["Deployment"].get("deploy-users")
    assert deployment is not None
    metadata = {**deployment["metadata"], "resourceVersion": "1000"}
    state = {**deployment["status"], "availableReplicas": 0}
    harness.stores["Deployment"].put({**deployment, "metadata": metadata, "status": state})


def test_r17_a_slow_computation_never_takes_the_place_of_a_later_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status computed from what was seen before the replicas were lost does not bring Running back."""
    _settled(harness)
    seen, go_on = threading.Event(), threading.Event()
    observed = harness.reconciler.observed

    def slow(name: str, graph: Graph | Refusal) -> dict[ObjectKey, Object]:
        found = observed(name, graph)
        if threading.current_thread().name == "slow":
            seen.set()
            go_on.wait(10)
        return found

    monkeypatch.setattr(harness.reconciler, "observed", slow)
    early = threading.Thread(target=harness.statuses.compute, args=("env-1",), name="slow")
    early.start()
    assert seen.wait(10)
    _lose_replicas(harness)
    assert harness.status()["phase"] == "Deploying"
    go_on.set()
    early.join(10)
    published = harness.statuses.get("env-1")
    assert published is not None
    assert published.status["phase"] == "Deploying"
