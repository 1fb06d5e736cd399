"""/healthz and /readyz: what makes an operator dead, what only unready, and what neither."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_apiserver import answer, fake_sandbox
from sandbox import wait
from serving import running, serving

from turbo_operator import reconciler
from turbo_operator.buildersync import BuilderSync
from turbo_operator.health import Health
from turbo_operator.kube import package
from turbo_operator.kube.client import KubeClient
from turbo_operator.kube.graphs import EventRecorder
from turbo_operator.kube.listwatch import ListWatch
from turbo_operator.reconciler import Reconciler
from turbo_operator.settings import Settings
from turbo_operator.statuskeeper import StatusKeeper
from turbo_operator.store import Store
from turbo_operator.workqueue import FairPool


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of k8s mode against the fake API server, with a builder that is away."""
    with fake_sandbox(tmp_path) as (_, sandbox):
        yield Settings(
            mode="k8s",
            namespace=sandbox.namespace,
            kubeconfig=str(sandbox.kubeconfig),
            builder_url="http://127.0.0.1:1",
        )


def _dead(client: httpx.Client) -> str:
    """Why /healthz says that the operator is dead; empty if it does not."""
    reply = client.get("/healthz")
    return str(reply.json()["reason"]) if reply.status_code == 503 else ""


@pytest.mark.parametrize(
    ("name", "kind", "method"),
    [
        ("watch-ConfigMap", ListWatch, "run"),
        ("events", EventRecorder, "run"),
        ("reconcile-0", Reconciler, "_work"),
        ("write-0", FairPool, "_work"),
        ("status-0", StatusKeeper, "_work"),
        ("builder-sync", BuilderSync, "run"),
    ],
)
def test_r22_a_thread_that_is_gone_makes_the_operator_dead(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, kind: type, method: str
) -> None:
    """Each kind of thread is missed by name: without it something is never done again."""
    monkeypatch.setattr(kind, method, lambda _: None)
    with running(settings, until_ready=False) as operator, serving(operator) as client:
        assert name in wait("/healthz to fail", lambda: _dead(client))


def test_r22_an_operator_that_cannot_begin_is_dead(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no more threads can be had nothing would ever be done: it is said, and the pod is started again."""

    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Reconciler, "start", refuse)
    with running(settings, until_ready=False) as operator, serving(operator) as client:
        assert "can't start new thread" in wait("/healthz to fail", lambda: _dead(client))


def test_r22_a_loop_that_takes_up_nothing_more_is_dead_until_it_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs that are due while every worker hangs make /healthz fail, for as long as that is so."""
    free = threading.Event()
    real: Callable[..., Any] = Reconciler.reconcile

    def hang(self: Reconciler, name: str) -> Any:
        free.wait(60)
        return real(self, name)

    monkeypatch.setattr(Reconciler, "reconcile", hang)
    monkeypatch.setattr(reconciler, "_STUCK_S", 0.2)
    with running(settings) as operator, serving(operator) as client:
        for n in range(17):  # one more than there are workers
            operator._reconciler.queue.add(f"env-{n}")
        assert "graphs are due" in wait("/healthz to fail", lambda: _dead(client))
        free.set()
        wait("/healthz to be well", lambda: not _dead(client))


def test_r22_an_outage_makes_the_operator_unready_and_never_dead(tmp_path: Path) -> None:
    """An API server that answers nothing but errors, from the very beginning, is no reason to start the pod again."""
    with fake_sandbox(tmp_path) as (server, sandbox):
        server.weather = lambda _: answer(503)
        settings = Settings(mode="k8s", namespace=sandbox.namespace, kubeconfig=str(sandbox.kubeconfig))
        with running(settings, until_ready=False) as operator, serving(operator) as client:
            wait("some errors", lambda: len(server.asked("list")) >= 12)
            assert client.get("/healthz").json() == {"status": "ok"}
            reply = client.get("/readyz")
            assert reply.status_code == 503
            assert "503" in reply.json()["checks"]["watch-ConfigMap"]
            server.weather = lambda _: None
            wait("readiness", lambda: client.get("/readyz").status_code == 200)


def test_r22_a_watch_that_says_nothing_makes_the_operator_unready() -> None:
    """A connection that neither speaks nor breaks for 75 s is told, though nothing has failed."""
    store, stopping = Store("ConfigMap", "v1"), threading.Event()
    store.synced.set()
    watch = ListWatch(KubeClient(package.configuration_class()(), "ns"), store, stopping)
    health = Health(stopping, {"ConfigMap": store}, [watch], lambda: None)
    watch.last_heard = time.monotonic() - 76
    assert health.checks()["watch-ConfigMap"].startswith("nothing heard for")
    assert health.stuck() is None
    watch.last_heard = time.monotonic()
    assert set(health.checks().values()) == {"ok"}
