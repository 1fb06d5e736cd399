"""What is remembered does not grow with the number of graphs, components and failures that came and went."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.applier import Result
from turbo_operator.core.plan import Action


def _work_off(harness: Harness) -> None:
    """Do what the threads would do, until nothing is due."""
    loops: list[tuple[Any, Callable[[str], Any]]] = [
        (harness.reconciler.queue, harness.reconciler.reconcile),
        (harness.statuses._queue, harness.statuses._keep),
    ]
    while any(queue.depth() for queue, _ in loops):
        for queue, work in loops:
            while queue.depth():
                name = queue.get()
                work(name)
                queue.succeeded(name)
                queue.done(name)


def _entries(harness: Harness, applier: RecordingApplier) -> dict[str, int]:
    """How many entries each container holds, of everything that remembers."""
    owners: list[Any] = [
        harness.reconciler,
        harness.reconciler.queue,
        harness.reconciler._writer,
        harness.statuses,
        harness.statuses._queue,
        harness.statuses._writer,
        applier.memory,
        *harness.stores.values(),
        *harness.reconciler._memories.values(),
    ]
    counts: dict[str, int] = {}
    for owner in owners:
        for attribute, value in vars(owner).items():
            # Both have limits of their own: of deletions that are remembered, and of what was superseded.
            if isinstance(value, (dict, list, set, frozenset)) and attribute not in {"_gone", "_heap"}:
                where = f"{type(owner).__name__}.{attribute}"
                counts[where] = counts.get(where, 0) + len(value)
    return counts


def _trouble(applier: RecordingApplier, package: str, number: int) -> Callable[[Action], Result | None]:
    """The Service of a package fails, is not kept as it was sent, or has an unknown outcome, in turn."""

    def fault(action: Action) -> Result | None:
        if action.component != package or action.kind != "Service" or action.body is None:
            return None
        if number % 3 == 0:
            return Result("failed", 500, message="boom")
        if number % 3 == 1:
            return Result("unknown", message="timed out")
        stored = copy.deepcopy(applier.memory.write(action).obj)
        assert stored is not None
        stored["spec"]["type"] = "NodePort"
        return Result("ok", 201, stored)

    return fault


def _collect(harness: Harness, applier: RecordingApplier, uid: str) -> None:
    for obj in applier.memory.collect(uid):
        harness.stores[obj["kind"]].remove(obj["metadata"]["name"], obj["metadata"]["uid"])


def test_r24_nothing_grows_with_what_came_and_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components, graphs, conflicts, failures and their ends leave nothing in any container, however many they are."""
    monkeypatch.setattr("turbo_operator.statuskeeper._COALESCE_S", 0.0)
    monkeypatch.setattr("turbo_operator.statuskeeper._COALESCE_PER_COMPONENT_S", 0.0)
    applier = RecordingApplier()
    harness = Harness(applier, start=False)
    harness.reconciler._writer.start()
    harness.listen()
    counts = []
    for number in range(30):
        package = f"c{number}"
        applier.fault = _trouble(applier, package, number)
        harness.put(spec(component("fixed"), component(package)))
        harness.stores["Service"].put(
            {"metadata": {"name": f"svc-taken{number}", "uid": f"foreign-{number}", "resourceVersion": "1"}}
        )
        other = spec(component(f"taken{number}"), component(f"free{number}"), environment=f"Env {number}")
        name = harness.put(other)
        _work_off(harness)
        obj = harness.graphs.get(name)
        assert obj is not None
        assert harness.status(name)["phase"] == "Degraded"
        assert harness.reconciler._claims
        applier.fault = None
        harness.drop(name)
        _work_off(harness)
        _collect(harness, applier, obj["metadata"]["uid"])
        harness.stores["Service"].remove(f"svc-taken{number}", f"foreign-{number}")
        harness.put(spec(component("fixed")))
        if (service := harness.stores["Service"].get(f"svc-{package}")) is not None:  # somebody is faster
            del applier.memory.objects["Service", f"svc-{package}"]
            harness.stores["Service"].remove(f"svc-{package}", service["metadata"]["uid"])
        harness.now += 1000
        _work_off(harness)
        harness.now += 1000
        harness.reconciler.reconcile("env-1")
        _work_off(harness)
        if number in {5, 29}:
            assert harness.status()["phase"] == "Running"
            counts.append(_entries(harness, applier))
    assert counts[0] == counts[1]
    assert counts[0]["Reconciler._memories"] == counts[0]["StatusWriter._written"] == 1
    harness.stop()


def test_r24_the_spec_of_a_graph_that_is_gone_is_not_kept() -> None:
    """Whoever still holds an APIGraph that went may ask for its spec, and leaves nothing behind."""
    harness = Harness(RecordingApplier(), start=False)
    name = harness.put(spec(component()))
    obj = harness.graphs.get(name)
    assert obj is not None
    harness.drop(name)
    harness.reconciler.reconcile(name)
    assert harness.reconciler.spec_of(obj) == harness.reconciler.spec_of(obj)
    assert harness.reconciler._specs == {}
