"""What only many repetitions show: how fast repairs are, and that memory stays bounded."""

import os
import statistics
import time
from datetime import datetime
from pathlib import Path

import pytest
from sandbox import OperatorProcess, Sandbox, built, wait
from specs import idle, spec

from turbo_operator.core import names

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(1200)]

_MIB = 2**20


def test_r19_fifty_repairs(sandbox: Sandbox) -> None:
    """Children of a graph of ten are deleted and edited by hand, fifty times: each is repaired, p95 within 2 s."""
    with sandbox.operator() as operator:
        sandbox.apply(spec(*(idle(f"c{n}", env={"A": "1"}) for n in range(10))))
        built(operator, "build-1")
        took = [
            _repair_s(sandbox, ("Service", "Deployment", "ConfigMap")[number % 3], f"c{number % 10}")
            for number in range(50)
        ]
        wait("nothing to be left", lambda: sandbox.outstanding() == ())
        assert sum(a["outcome"] == "ok" for a in operator.actions()) == 30 + 50
    p95 = statistics.quantiles(took, n=20)[-1]
    told = f"repair: median {statistics.median(took):.3f} s, p95 {p95:.3f} s, longest {max(took):.3f} s"
    print(told)  # noqa: T201 - the figures
    assert p95 <= 2


def test_r26_a_thousand_components_delay_another_graph_by_a_second_at_most(sandbox: Sandbox) -> None:
    """Five graphs of one component, applied while one of a thousand is written, take a second longer at most."""
    with sandbox.operator() as operator:
        alone = [_apply_s(sandbox, operator, f"alone-{number}") for number in range(5)]
        sandbox.apply(spec(*(idle(f"c{n}") for n in range(1000)), environment="large"))
        wait("the first writes", lambda: _written(operator, "large") > 50)
        beside = [_apply_s(sandbox, operator, f"beside-{number}") for number in range(5)]
        assert _written(operator, "large") < 3000
    delay_s = statistics.median(beside) - statistics.median(alone)
    told = f"one component: alone {statistics.median(alone):.3f} s, beside a thousand {delay_s:.3f} s longer"
    print(told, [round(each, 3) for each in beside])  # noqa: T201 - the figures
    assert delay_s <= 1


def _written(operator: OperatorProcess, environment: str) -> int:
    """How many writes of an environment are finished."""
    return sum(action["environment_id"] == environment for action in operator.actions())


def _apply_s(sandbox: Sandbox, operator: OperatorProcess, environment: str) -> float:
    """Apply a graph of one component; gives the seconds until the last of its objects is written."""
    started = time.time()
    sandbox.apply(spec(idle(environment), environment=environment))
    wait(f"the objects of {environment}", lambda: _written(operator, environment) == 3)
    ends = [action["time"] for action in operator.actions() if action["environment_id"] == environment]
    return datetime.fromisoformat(max(ends)).timestamp() - started


def _repair_s(sandbox: Sandbox, kind: str, component: str) -> float:
    """Damage an object of a component; gives the seconds until it is as it was."""
    name = names.PREFIXES[kind] + component
    before = sandbox.get(kind, name) or {}
    if kind == "Service":
        sandbox.delete(kind, name)
    else:
        sandbox.patch(kind, name, {"data": {"A": "by hand"}} if kind == "ConfigMap" else {"spec": {"replicas": 3}})
    started = time.perf_counter()

    def repaired() -> bool:
        now = sandbox.get(kind, name)
        if now is None:
            return False
        if kind == "Service":
            return bool(now["metadata"]["uid"] != before["metadata"]["uid"])
        part = "data" if kind == "ConfigMap" else "spec"
        return bool(now[part] == before[part])

    while not repaired():
        assert time.perf_counter() - started < 30, f"{kind} {name} is not repaired"
        time.sleep(0.005)
    return time.perf_counter() - started


def test_r24_ten_thousand_reconciles_leave_memory_as_it_was(sandbox: Sandbox) -> None:
    """One process, 10,000 reconciles, every fourth a change, every hundredth a graph's whole life.

    The action log is full by two thirds of it; from then on nothing grows any more.
    """
    rss: list[tuple[int, float]] = []
    with sandbox.operator() as operator:
        for number in range(10_000):
            if number % 1000 == 0:
                rss.append((number, _rss_mib(operator)))
            if number % 100 == 0:
                _whole_life(operator, number)
            value = spec(idle(env={f"TURN_{number // 4 % 7}": str(number // 4)}), build=f"build-{number // 4}")
            assert operator.client.post("/v1/reconcile", json=value).status_code == 200
        rss.append((10_000, _rss_mib(operator)))
        reconciles = operator.metric("turbo_operator_reconciles_total")
        threads = len(list(Path(f"/proc/{operator.process.pid}/task").iterdir()))
        files = len(list(Path(f"/proc/{operator.process.pid}/fd").iterdir()))
        newest = operator.actions()[-1]["seq"]
    told = ", ".join(f"{number}: {mib:.1f}" for number, mib in rss)
    print(f"RSS in MiB after n reconciles: {told}; {reconciles:.0f} in all, {newest} actions")  # noqa: T201 - the figures
    assert reconciles >= 10_000
    at = dict(rss)
    assert at[10_000] - at[7_000] <= 4
    assert at[10_000] <= 140
    assert threads <= 60
    assert files <= 120


def _whole_life(operator: OperatorProcess, number: int) -> None:
    value = spec(idle(f"short-{number}"), environment=f"short-{number}")
    assert operator.client.post("/v1/reconcile", json=value).status_code == 200
    assert operator.client.delete(f"/v1/environments/short-{number}").status_code == 202


def _rss_mib(operator: OperatorProcess) -> float:
    pages = int(Path(f"/proc/{operator.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB
