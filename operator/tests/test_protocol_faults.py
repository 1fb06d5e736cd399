"""The whole operator against the fake API server while the protocol between them breaks in every way there is."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_apiserver import (
    KINDS,
    FakeApiServer,
    Handler,
    Seen,
    Step,
    answer,
    cut,
    fake_sandbox,
    gone_in_stream,
    reset,
    reset_after,
    silent,
    slow,
)
from fake_objects import Event, Object, Problem
from fault_cells import ride_out_all
from sandbox import Sandbox, wait
from specs import OPTIONS, component, graph_of, spec

from turbo_operator.core.desired import Owner, desired, key_of
from turbo_operator.core.fields import differences, slim
from turbo_operator.kube.listwatch import Pace
from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings

CHILDREN = ("ConfigMap", "Service", "Deployment")
RECOVERY_S = 75.0
BACKOFF_S = 0.8
SHORT = Pace(watch_s=1, silence_s=1.5, backoff_s=0.1, longest_backoff_s=0.5)


class World:
    """A fake API server and an operator that runs against it."""

    def __init__(self, server: FakeApiServer, sandbox: Sandbox, operator: Operator) -> None:
        self.server, self.sandbox, self.operator = server, sandbox, operator

    def wrong(self) -> str:
        """What is not yet as the APIGraphs ask, in objects, statuses or caches; empty if nothing."""
        objects = self.server.objects
        with objects.changed:
            state = {kind: {obj["metadata"]["name"]: obj for obj in objects.all(kind)} for kind in KINDS}
        wanted: dict[tuple[str, str], Object] = {}
        for name, graph in state["APIGraph"].items():
            owner = Owner(name, graph["metadata"]["uid"])
            wanted |= {key_of(obj): obj for obj in desired(graph_of(graph["spec"]), owner, OPTIONS)}
            status = graph.get("status") or {}
            generation = graph["metadata"]["generation"]
            if (status.get("phase"), status.get("observedGeneration")) != ("Running", generation):
                return f"status of {name} at {generation}: {status.get('phase')} at {status.get('observedGeneration')}"
            report = self.operator.statuses.get(graph["spec"]["environmentId"])
            if report is None or report.status["phase"] != "Running":
                return f"report of {name}: {report and report.status}"
        for kind in CHILDREN:
            there = {name for name, obj in state[kind].items() if obj["metadata"].get("ownerReferences")}
            if there != {name for of, name in wanted if of == kind}:
                return f"{kind}: {sorted(there)}"
        for (kind, name), body in wanted.items():
            fields = differences(body, slim(state[kind][name]))
            if fields:
                return f"{kind} {name} differs in {fields}"
        return self._stale(state)

    def _stale(self, state: dict[str, dict[str, Object]]) -> str:
        for kind, store in self.operator._stores.items():
            cached = {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in store.all()}
            if cached != {name: obj["metadata"]["resourceVersion"] for name, obj in state[kind].items()}:
                return f"cache of {kind}: {cached}"
        bad = {name: check for name, check in self.operator.health.checks().items() if check != "ok"}
        return f"{bad or ''}{self.operator.health.stuck() or ''}"

    def settle(self, within_s: float = RECOVERY_S) -> float:
        """Wait until nothing is wrong; gives how long it took."""
        started = time.monotonic()
        while wrong := self.wrong():
            assert time.monotonic() - started < within_s, f"after {within_s} s: {wrong}"
            time.sleep(0.03)
        return time.monotonic() - started

    def applies(self, since: int = 0) -> list[tuple[str, str]]:
        """Kind and name of the operator's writes of children."""
        return [
            (seen.kind, seen.name)
            for seen in self.server.seen[since:]
            if seen.verb == "apply" and seen.kind in CHILDREN
        ]


@contextlib.contextmanager
def world(directory: Path, pace: Pace | None = SHORT) -> Iterator[World]:
    """An operator in k8s mode that has nothing to do yet."""
    with fake_sandbox(directory) as (server, sandbox):
        settings = Settings(mode="k8s", namespace=sandbox.namespace, kubeconfig=str(sandbox.kubeconfig))
        operator = Operator(settings, pace=pace)
        operator.start()
        try:
            yield World(server, sandbox, operator)
        finally:
            server.over.set()  # ends what is held, so that nothing is waited for
            operator.stop(10)


def _before(environment: str = "env-1") -> dict[str, Any]:
    return spec(component(env={"A": "1"}), component("other"), environment=environment)


def _after(environment: str = "env-1") -> dict[str, Any]:
    return spec(component(env={"A": "2"}), component("new"), environment=environment, build="build-2")


# -- R6 -------------------------------------------------------------------------------------------------------------

ANY = ("list", "watch", "apply", "delete", "status")
WRITES = ("apply", "delete", "status")
FAULTS: dict[str, tuple[Step, tuple[str, ...]]] = {
    "410": (answer(410, "Expired"), ANY),
    "410 in the stream": (gone_in_stream, ("watch",)),
    "429": (answer(429, "TooManyRequests", retry_after_s=2), ANY),
    "500": (answer(500, "InternalError"), ANY),
    "503": (answer(503, "ServiceUnavailable"), ANY),
    "504": (answer(504, "Timeout"), ANY),
    "504 after it landed": (answer(504, "Timeout", landed=True), WRITES),
    "cut": (cut, ANY),
    "silent": (silent, ANY),
    "reset": (reset, ANY),
    "reset after it landed": (reset_after, WRITES),
    "slow": (slow(0.5), ANY),
}
"""What goes wrong, and with which requests it can."""
LANDS = {"504 after it landed", "cut", "reset after it landed", "slow"}
"""Faults with which a write lands."""
CELLS = [(fault, target) for fault, (_, targets) in FAULTS.items() for target in targets]


def _ride_out(
    directory: Path, fault: str, target: str, *, pace: Pace | None, times: int, within_s: float = RECOVERY_S
) -> None:
    """Change everything while requests of one kind fail in one way, and hold the operator to R6."""
    step = FAULTS[fault][0]
    with world(directory, pace) as here:
        server, sandbox = here.server, here.sandbox
        sandbox.apply(_before())
        here.settle()
        mark, started = len(server.seen), time.monotonic()
        for kind in {"apply": CHILDREN, "delete": CHILDREN, "status": ("APIGraph",)}.get(target, KINDS):
            server.script(target, *[step] * times, kind=kind)
        if target == "list":
            server.objects.compact()
        if target in {"list", "watch"}:
            server.end_watches()
        sandbox.apply(_after())
        server.objects.delete("Service", "svc-users", {})
        if target == "list":
            server.objects.compact()  # what was done meanwhile is seen by no watch
        for n in range(8 if target == "status" else 0):
            note = {"metadata": {"annotations": {"someone.example/note": str(n)}}}
            server.objects.patch("Deployment", "deploy-users", note, "hand", strict=False)
            time.sleep(0.1)  # there is always something new to look at: it makes no retry come sooner
        here.settle(within_s)
        took_s = time.monotonic() - started
        assert server.unmet() == 0, "the fault was not met"
        seen = server.seen[mark:]
        # Objects of 3 components, each written and read back, and statuses; the watches end once a second.
        assert len(seen) <= 40 + 12 * times + 10 * took_s, [(s.verb, s.kind, s.name) for s in seen]
        least_s = BACKOFF_S if pace is None or target in WRITES else pace.backoff_s
        _assert_paced([s for s in seen if s.verb == target], 0.0 if fault == "slow" else least_s)
        if fault == "429":
            _assert_paced([s for s in seen if s.verb == target], 2.0)
        if fault in LANDS and target in {"apply", "delete"}:
            written = [(s.kind, s.name) for s in seen if s.verb == target and s.kind in CHILDREN]
            assert len(set(written)) == len(written), "what had landed was written again"
        # What was lost on the way is not waited for: the operator hears and repairs as before.
        server.objects.delete("ConfigMap", "cm-new", {})
        here.settle(within_s)


def _assert_paced(seen: list[Seen], least_s: float) -> None:
    """After each request that met the fault the same request was left alone for a while."""
    by_object: dict[tuple[str, str], list[Seen]] = {}
    for request in seen:
        by_object.setdefault((request.kind, request.name), []).append(request)
    for key, requests in by_object.items():
        for one, next_one in itertools.pairwise(requests):
            assert not one.scripted or next_one.at - one.at >= least_s, (key, next_one.at - one.at)


def test_r06_every_request_in_every_way_at_short_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, watches, writes and status writes recover from each fault once; all at the same time, to save some."""
    ride_out_all(monkeypatch, CELLS, lambda cell: _ride_out(tmp_path, *cell, pace=SHORT, times=1, within_s=30))


@pytest.mark.soak
@pytest.mark.parametrize(("fault", "target"), CELLS, ids=[f"{target}-{fault}" for fault, target in CELLS])
def test_r06_every_request_in_every_way_at_real_times(tmp_path: Path, fault: str, target: str) -> None:
    """As the operator runs in a cluster: recovered in 75 s from a fault met three times, where it is tried again."""
    once = fault in {"silent", "slow"} or (fault in LANDS and target in WRITES)
    _ride_out(tmp_path, fault, target, pace=None, times=1 if once else 3)


def _storm(share: float, seed: int) -> Callable[[Handler], Step | None]:
    """A share of the operator's requests fails, each in some way."""
    choice = random.Random(seed)  # noqa: S311 - the same weather each time

    def weather(request: Handler) -> Step | None:
        steps = [step for step, targets in FAULTS.values() if request.verb in targets and step is not silent]
        own = request.headers.get("Authorization") is not None
        return choice.choice(steps) if own and steps and choice.random() < share else None

    return weather


def _weather_a_storm(directory: Path, *, seconds: float, seed: int) -> None:
    with fake_sandbox(directory) as (server, sandbox), sandbox.operator() as operator:
        sandbox.apply(_before())
        wait("Running to be written", lambda: sandbox.written_phase("env-1") == "Running")
        calm, server.weather = server.weather, _storm(0.3, seed)
        ends = time.monotonic() + seconds
        for n in itertools.count(2):
            sandbox.apply(_after() if n % 2 else _before())
            with contextlib.suppress(Problem):
                server.objects.delete("Service", "svc-users", {})
            time.sleep(0.5)
            if time.monotonic() > ends:
                break
        sandbox.apply(_after())
        server.weather = calm
        graph = sandbox.get("APIGraph", "env-1") or {}
        bodies = desired(graph_of(graph["spec"]), Owner("env-1", graph["metadata"]["uid"]), OPTIONS)

        def right() -> bool:
            children = sandbox.children()
            if set(children) != {key_of(body) for body in bodies}:
                return False
            return not any(differences(body, slim(children[key_of(body)])) for body in bodies)

        wait("the children to be right", right, RECOVERY_S)
        wait("Running", lambda: (operator.get("/v1/status/env-1") or {}).get("phase") == "Running", RECOVERY_S)
        wait("the status", lambda: _written(sandbox) == ("Running", graph["metadata"]["generation"]), RECOVERY_S)
        wait("ready", lambda: operator.get("/readyz"), RECOVERY_S)
        numbers = [action["seq"] for action in operator.actions()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert operator.end() == 0


def _written(sandbox: Sandbox) -> tuple[Any, Any]:
    status = (sandbox.get("APIGraph", "env-1") or {}).get("status") or {}
    return status.get("phase"), status.get("observedGeneration")


def test_r06_the_process_weathers_a_short_storm(tmp_path: Path) -> None:
    """A third of all requests fails while the graph changes: soon after, all is right, in the same process."""
    _weather_a_storm(tmp_path, seconds=3, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_r06_the_process_weathers_a_long_storm(tmp_path: Path, seed: int) -> None:
    """The same for a minute and a half."""
    _weather_a_storm(tmp_path, seconds=90, seed=seed)


# -- R4 -------------------------------------------------------------------------------------------------------------


class Disturbance:
    """Drops, repeats, delays and reorders the events of all watches."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same each time
        self._lock = threading.Lock()
        self._held: dict[str, list[Event]] = {}
        self.done = {"dropped": 0, "repeated": 0, "held": 0, "reordered": 0}

    def __call__(self, kind: str, events: list[Event]) -> list[Event]:
        """What is sent instead."""
        with self._lock:
            waiting = self._held.pop(kind, [])
            sent: list[Event] = []
            for event in [*waiting, *events]:
                fate = self._random.choices(["sent", "dropped", "repeated", "held"], [5, 1, 1, 2])[0]
                if fate != "sent":
                    self.done[fate] += 1
                if fate == "held":
                    self._held.setdefault(kind, []).append(event)
                sent += {"sent": [event], "repeated": [event, event]}.get(fate, [])
            ordered = list(sent)
            self._random.shuffle(sent)
            self.done["reordered"] += sent != ordered
            return sent


def _act(here: World, choice: random.Random, specs: list[dict[str, Any]]) -> None:
    """One change by somebody."""
    objects = here.server.objects
    with contextlib.suppress(Problem):
        match choice.randrange(6):
            case 0:
                objects.delete("Service", choice.choice(["svc-users", "svc-other", "svc-new"]), {})
            case 1:
                objects.delete("ConfigMap", choice.choice(["cm-users", "cm-other", "cm-new"]), {})
            case 2:
                objects.patch("ConfigMap", "cm-users", {"data": {"A": "by hand"}}, "hand", strict=False)
            case 3:
                objects.patch("Deployment", "deploy-users", {"spec": {"replicas": 7}}, "hand", strict=False)
            case _:
                here.sandbox.apply(choice.choice(specs))


def _disturb(directory: Path, seed: int, *, changes: int) -> None:
    choice, disturbance = random.Random(seed), Disturbance(seed)  # noqa: S311 - the same each time
    pace = Pace(watch_s=1, silence_s=3, backoff_s=0.1, longest_backoff_s=0.5, relist_s=1.5)
    with world(directory, pace) as here:
        here.sandbox.apply(_before())
        here.settle()
        here.server.tamper, here.server.tampered = disturbance, True
        made = 0
        while made < changes or not all(
            disturbance.done.values()
        ):  # which events come together is the machine's choice
            _act(here, choice, [_before(), _after()])
            time.sleep(choice.choice([0, 0.02, 0.2]))
            made += 1
            assert made < 50 * changes, f"nothing was disturbed in some way: {disturbance.done}"
        here.sandbox.apply(_after())
        here.settle()
        mark = len(here.server.seen)
        time.sleep(1)
        here.settle()
        assert here.applies(mark) == []


def test_r04_events_dropped_delayed_doubled_and_reordered_end_in_the_same_state(tmp_path: Path) -> None:
    """Through real watches, with edits by hand and new specs meanwhile; then nothing more is written."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda seed: _disturb(tmp_path, seed, changes=30), (1, 2, 3)))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_r04_events_disturbed_for_long_end_in_the_same_state(tmp_path: Path, seed: int) -> None:
    """The same with three hundred changes, in ten other orders."""
    _disturb(tmp_path, seed, changes=300)


# -- R7 -------------------------------------------------------------------------------------------------------------


class Held:
    """Keeps the events of the children back until they are released."""

    def __init__(self) -> None:
        self.open = False
        self._kept: dict[str, list[Event]] = {}

    def __call__(self, kind: str, events: list[Event]) -> list[Event]:
        """Nothing of children, or all at once."""
        if kind not in CHILDREN:
            return events
        kept = [*self._kept.pop(kind, []), *events]
        if self.open:
            return kept
        self._kept[kind] = kept
        return []


def _has(what: Callable[[], list[Any]], count: int) -> bool:
    return len(what()) >= count


_LONG = Pace(watch_s=60, silence_s=70)


def test_r07_a_watch_that_lags_behind_our_own_writes_causes_none(tmp_path: Path) -> None:
    """Each new spec is written exactly once while no event of a child arrives, and late ones change nothing."""
    with world(tmp_path, _LONG) as here:
        here.sandbox.apply(_before())
        here.settle()
        held = here.server.tamper = Held()
        here.server.tampered = True
        mark = len(here.server.seen)
        for n in range(2, 6):
            here.sandbox.apply(spec(component(env={"A": str(n)}), component("other"), build=f"build-{n}"))
            wait("the writes", partial(_has, lambda: here.applies(mark), 2 * (n - 1)))
            assert here.server.objects.get("ConfigMap", "cm-users")["data"] == {"A": str(n)}
        held.open = True
        here.settle()
        expected = [("ConfigMap", "cm-users"), ("Deployment", "deploy-users")] * 4
        assert here.applies(mark) == expected


def test_r07_a_list_from_before_our_own_writes_causes_none(tmp_path: Path) -> None:
    """A list that was made before our writes and arrives after them neither hides what they made nor undoes it."""
    made: list[Object] = []
    answered = threading.Event()

    def late(handler: Handler) -> None:
        page = handler.land()
        made.append(page)
        answered.wait(30)
        handler.reply(200, page)

    with world(tmp_path, _LONG) as here:
        here.sandbox.apply(_before())
        here.settle()
        for kind in CHILDREN:
            here.server.script("list", late, kind=kind)
        here.server.objects.compact()
        here.server.end_watches()
        wait("the lists to be made", lambda: len(made) == len(CHILDREN))
        mark = len(here.server.seen)
        here.sandbox.apply(_after())
        expected = [("ConfigMap", "cm-users"), ("Deployment", "deploy-users")]
        expected += [("ConfigMap", "cm-new"), ("Deployment", "deploy-new"), ("Service", "svc-new")]
        wait("the writes", lambda: len(here.applies(mark)) == len(expected))
        held = here.server.tamper = Held()
        here.server.tampered = True
        watched = {kind: len(here.server.asked("watch", kind)) for kind in CHILDREN}
        answered.set()
        for kind, before in watched.items():
            wait(
                f"the list of {kind} to be taken", partial(_has, partial(here.server.asked, "watch", kind), before + 1)
            )
        # With another graph written after them the operator has had its time for mistakes.
        here.sandbox.apply(spec(component("last"), environment="env-2"))
        wait("another graph", lambda: ("Deployment", "deploy-last") in here.applies(mark))
        held.open = True
        here.settle()
        found = sorted(key for key in here.applies(mark) if "last" not in key[1])
        assert found == sorted(expected), "\n".join(map(str, here.operator.actions.since(0)))


def test_r07_a_delete_never_meets_another_object_of_the_name(tmp_path: Path) -> None:
    """What was replaced unseen is not deleted: the operator's delete carries the uid of the object it knew."""
    with world(tmp_path, _LONG) as here:
        here.sandbox.apply(_before())
        here.settle()
        held = here.server.tamper = Held()
        here.server.tampered = True
        objects = here.server.objects
        old = objects.delete("Service", "svc-other", {})["details"]["uid"]
        mine = {"metadata": {"name": "svc-other"}, "spec": {"ports": [{"port": 1}]}}
        new = here.sandbox.create("Service", mine)["metadata"]["uid"]
        mark = len(here.server.seen)
        here.sandbox.apply(spec(component(env={"A": "1"}), build="build-2"))
        wait("the delete", lambda: any(s.verb == "delete" and s.kind == "Service" for s in here.server.seen[mark:]))
        held.open = True
        here.settle()
        assert new != old
        assert objects.get("Service", "svc-other")["metadata"]["uid"] == new
        outcomes = [r["outcome"] for r in here.operator.actions.since(0) if r["resource_name"] == "svc-other"]
        assert outcomes == ["ok", "conflict"]
