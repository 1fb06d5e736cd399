"""What SIGTERM leaves to be done: writes in flight end and are told, and none is begun."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_apiserver import FakeApiServer, Handler, fake_sandbox
from sandbox import Sandbox, wait
from serving import running
from specs import component, spec

from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[FakeApiServer, Sandbox, Operator]]:
    """A fake API server, and an operator that is ready and has nothing to do."""
    with fake_sandbox(tmp_path) as (server, sandbox):
        settings = Settings(mode="k8s", namespace=sandbox.namespace, kubeconfig=str(sandbox.kubeconfig))
        with running(settings) as operator:
            yield server, sandbox, operator


class _Stop(threading.Thread):
    """Stops an operator as SIGTERM does."""

    def __init__(self, operator: Operator) -> None:
        super().__init__(daemon=True)
        self._operator = operator
        self.in_time: bool | None = None

    def run(self) -> None:
        """Stop."""
        self.in_time = self._operator.stop()


def test_r23_after_sigterm_the_write_in_flight_ends_and_the_next_of_its_component_is_not_begun(
    world: tuple[FakeApiServer, Sandbox, Operator],
) -> None:
    """Of ConfigMap, Service and Deployment only what was on its way is written, and it is told as an action."""
    server, sandbox, operator = world
    stop = _Stop(operator)

    def last(_: Handler) -> None:
        stop.start()
        wait("the writer to be told", operator._reconciler._writer._stopping.is_set)

    server.script("apply", last, kind="ConfigMap")
    sandbox.apply(spec(component()))
    wait("the stop to begin", lambda: stop.ident)
    stop.join(30)
    assert stop.in_time
    assert [(seen.kind, seen.scripted) for seen in server.asked("apply") if seen.kind != "APIGraph"] == [
        ("ConfigMap", True)
    ]
    assert [(a["resource_name"], a["outcome"]) for a in operator.actions.since(0)] == [("cm-users", "ok")]


def test_r23_the_stop_waits_for_a_status_on_its_way(world: tuple[FakeApiServer, Sandbox, Operator]) -> None:
    """A status that is being written when SIGTERM comes is answered before the operator has ended."""
    server, sandbox, operator = world
    stop = _Stop(operator)
    order: list[str] = []

    def late(_: Handler) -> None:
        stop.start()
        stop.join(1.5)  # an operator that does not wait ends in this time
        order.append("the operator has not ended" if stop.is_alive() else "the operator has ended")

    server.script("status", late)
    sandbox.apply(spec(component()))
    wait("the stop to begin", lambda: stop.ident)
    stop.join(30)
    assert stop.in_time
    assert order == ["the operator has not ended"]
    assert (sandbox.get("APIGraph", "env-1") or {}).get("status")
