"""The operator's own writes of APIGraphs, for the builder and over HTTP, while the API server fails in every way."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_apiserver import (
    FakeApiServer,
    Handler,
    Step,
    answer,
    cut,
    fake_sandbox,
    reset,
    reset_after,
    silent,
    slow,
)
from fake_builder import Builder, fake_builder
from fake_objects import Event
from fault_cells import ride_out_all
from sandbox import wait
from serving import serving
from specs import component, spec

from turbo_operator.kube.listwatch import Pace
from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings

BACKOFF_S = 0.8
RECOVERY_S = 75.0
SHORT = Pace(watch_s=1, silence_s=1.5, backoff_s=0.1, longest_backoff_s=0.5)
VERBS = {"create": "Create", "patch": "Update", "delete": "Delete"}
ONE, TWO = spec(component("a")), spec(component("b"), environment="env-2")
NEWER = {**ONE, "buildId": "build-2"}

FAULTS: dict[str, Step] = {
    "410": answer(410, "Expired"),
    "429": answer(429, "TooManyRequests", retry_after_s=2),
    "500": answer(500, "InternalError"),
    "503": answer(503, "ServiceUnavailable"),
    "504": answer(504, "Timeout"),
    "504 after it landed": answer(504, "Timeout", landed=True),
    "cut": cut,
    "silent": silent,
    "reset": reset,
    "reset after it landed": reset_after,
    "slow": slow(0.5),
}
LANDS = {"504 after it landed", "cut", "reset after it landed", "slow"}
CELLS = list(itertools.product(FAULTS, VERBS))


class World:
    """A fake API server, a builder, and an operator between them."""

    def __init__(self, server: FakeApiServer, builder: Builder, operator: Operator) -> None:
        self.server, self.builder, self.operator = server, builder, operator

    def builds(self) -> dict[str, str]:
        """Build of each environment that has an APIGraph."""
        with self.server.objects.changed:
            specs = [obj["spec"] for obj in self.server.objects.all("APIGraph")]
        return {each["environmentId"]: each["buildId"] for each in specs}

    def told(self, verb: str = "") -> list[tuple[str, str, str]]:
        """Verb, environment and outcome of the actions on APIGraphs, of one verb or all."""
        records = [r for r in self.operator.actions.since(0) if r["resource_kind"] == "APIGraph"]
        told = [(r["action"], r["environment_id"], r["outcome"]) for r in records]
        return [each for each in told if verb in {"", each[0]}]


@contextlib.contextmanager
def _world(directory: Path, *, interval_s: float = 1.0) -> Iterator[World]:
    with fake_builder() as builder, fake_sandbox(directory) as (server, sandbox):
        builder.say()
        settings = Settings(
            mode="k8s",
            namespace=sandbox.namespace,
            kubeconfig=str(sandbox.kubeconfig),
            builder_url=builder.url,
            poll_interval_s=interval_s,
        )
        operator = Operator(settings, pace=SHORT)
        operator.start()
        try:
            wait("the caches", lambda: set(operator.health.checks().values()) == {"ok"})
            yield World(server, builder, operator)
        finally:
            server.over.set()  # ends what is held, so that nothing is waited for
            operator.stop(10)


def _ride_out(directory: Path, fault: str, target: str, *, times: int, within_s: float) -> None:
    """Let the sync's writes of one APIGraph fail in one way, and hold the operator to R6, R16 and its action log."""
    with _world(directory) as here:
        if target != "create":
            here.builder.say(ONE)
            wait("the graph", lambda: here.builds() == {"env-1": "build-1"})
        here.server.script(target, *[FAULTS[fault]] * times, kind="APIGraph")
        # A POST names nobody: the graph that is created is the only one.
        wanted = {"create": [ONE], "patch": [NEWER, TWO], "delete": [TWO]}[target]
        here.builder.say(*wanted)
        ends = {each["environmentId"]: each["buildId"] for each in wanted}
        verb = VERBS[target]

        def over() -> bool:
            last = [outcome for _, environment, outcome in here.told(verb) if environment == "env-1"][-1:]
            return here.builds() == ends and here.server.unmet() == 0 and last == ["ok"]

        wait("the end state", over, within_s)
        asked = here.server.asked(target, "APIGraph")
        lines = [outcome for _, environment, outcome in here.told(verb) if environment == "env-1"]
        if fault in LANDS:
            assert len(asked) == 1, "what had landed was written again"
            assert lines == ["ok"]
        else:
            assert lines == ["failed"] * times + ["ok"]
            least_s = 2.0 if fault == "429" else BACKOFF_S
            for one, next_one in itertools.pairwise(asked):
                assert next_one.at - one.at >= least_s
        assert {told for told, _, _ in here.told()} <= set(VERBS.values())
        assert here.operator._sync is not None
        wait("what was refused to be taken", lambda: here.operator._sync and not here.operator._sync.refused)


def test_r06_every_write_of_a_graph_in_every_way_at_short_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Create, update and delete recover from each fault, are paced, told as they ended, and keep no other back."""
    ride_out_all(monkeypatch, CELLS, lambda cell: _ride_out(tmp_path, *cell, times=1, within_s=30))


@pytest.mark.soak
@pytest.mark.parametrize(("fault", "target"), CELLS, ids=[f"{target}-{fault}" for fault, target in CELLS])
def test_r06_every_write_of_a_graph_in_every_way_at_real_times(tmp_path: Path, fault: str, target: str) -> None:
    """Recovered in 75 s from a fault that is met three times, where it is tried again."""
    _ride_out(tmp_path, fault, target, times=1 if fault in {"silent", *LANDS} else 3, within_s=RECOVERY_S)


def _has(here: World, verb: str, lines: int) -> bool:
    return len(here.told(verb)) == lines


class Late:
    """Keeps the events of APIGraphs back until they are released."""

    def __init__(self) -> None:
        self.open = False
        self._kept: list[Event] = []

    def __call__(self, kind: str, events: list[Event]) -> list[Event]:
        """Nothing of APIGraphs, or all at once."""
        if kind != "APIGraph":
            return events
        self._kept += events
        if not self.open:
            return []
        kept, self._kept = self._kept, []
        return kept


@pytest.mark.parametrize("readable", [True, False], ids=["read back", "unreadable"])
def test_a_request_whose_write_was_lost_is_told_as_it_ended(tmp_path: Path, *, readable: bool) -> None:
    """POST and DELETE succeed when reading back shows it; else they answer `unknown`, and the watch tells the end."""
    with _world(tmp_path) as here, serving(here.operator) as client:
        requests: list[tuple[str, Callable[[], Any]]] = [
            ("create", lambda: client.post("/v1/reconcile", json=ONE)),
            ("patch", lambda: client.post("/v1/reconcile", json=NEWER)),
            ("delete", lambda: client.delete("/v1/environments/env-1")),
        ]
        for target, send in requests:
            here.server.script(target, reset_after, kind="APIGraph")
            if not readable:
                here.server.script("get", answer(500, "InternalError"), kind="APIGraph")
            late = here.server.tamper = Late()
            here.server.tampered = True
            reply = send()
            assert here.server.unmet() == 0
            verb = VERBS[target]
            if readable:
                assert reply.status_code in {200, 202}, reply.text
                assert here.told(verb) == [(verb, "env-1", "ok")]
            else:
                assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unknown")
                assert here.told(verb) == [(verb, "env-1", "unknown")]
                late.open = True
                wait("the second line", partial(_has, here, verb, 2))
                assert here.told(verb) == [(verb, "env-1", "unknown"), (verb, "env-1", "ok")]
            late.open = True
            assert len(here.server.asked(target, "APIGraph")) == 1
        assert here.builds() == {}


def test_r23_the_write_of_the_sync_under_way_is_the_last_and_is_told(tmp_path: Path) -> None:
    """Of fifty graphs one is being created when the operator stops: it is waited for, and no other is begun."""
    begun, go_on = threading.Event(), threading.Event()

    def held(_: Handler) -> None:
        begun.set()
        go_on.wait(30)

    with _world(tmp_path) as here, ThreadPoolExecutor(1) as pool:
        here.server.script("create", held, kind="APIGraph")
        here.builder.say(*(spec(component(str(n)), environment=f"env-{n}") for n in range(50)))
        assert begun.wait(30)
        stopped = pool.submit(here.operator.stop, 10)
        wait("the stop to begin", here.operator._stopping.is_set)
        go_on.set()
        assert stopped.result(30)
        assert here.told() == [("Create", "env-0", "ok")]
        assert here.operator._sync is not None
        here.operator._sync.join(30)
        assert len(here.server.asked("create", "APIGraph")) == 1
