"""The operator is killed in the midst of its work, again and again, and a new one takes over."""

import gzip
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from conftest import ControlPlane
from crashproxy import CrashingProxy, crashing_proxy
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sandbox import MANIFESTS, OperatorProcess, Sandbox, built, settled, wait
from specs import idle, moving, spec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

_WRITERS = 16
"""So many writes may be in flight when the operator is killed: carried out, perhaps, and not logged."""

NewSandbox = Callable[[], Sandbox]


def _fresh(new_sandbox: NewSandbox, value: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """What an undisturbed operator makes of a spec in an empty namespace."""
    sandbox = new_sandbox()
    sandbox.apply(value)
    with sandbox.operator() as operator:
        built(operator, value["buildId"], 120)
        return sandbox.contents()


@dataclass
class _Kills:
    """What a loop of kills has seen."""

    sandbox: Sandbox
    turn: int = 0
    in_mid_update: int = 0
    unlogged: int = 0

    def kill_once(self, random_: random.Random, size: int, writes: int) -> None:
        """Start an operator, kill it about `writes` later, and account for everything it changed."""
        before = self._seen()
        running = self.sandbox.start(until_ready=False)
        try:
            wait(f"{writes} writes, or nothing left", lambda: self._got_to(running, writes), 120)
            time.sleep(random_.uniform(0, 0.03))
        finally:
            running.end(signal.SIGKILL)
            running.client.close()
        after = self._at_rest()
        self._account(running, before, after)
        left = self.sandbox.outstanding()
        if left:
            self.in_mid_update += bool(before != after)
        else:
            self.turn += 1
            self.sandbox.replace(moving(size, self.turn))

    def _got_to(self, running: OperatorProcess, writes: int) -> bool:
        assert running.process.poll() is None, running.log.read_text()[-3000:]
        return len(running.actions()) >= writes or running.phase("env-1") == "Running"

    def _account(self, running: OperatorProcess, before: dict[Any, Any], after: dict[Any, Any]) -> None:
        """Every finished write is in the log once and can be seen; what is not in the log was in flight."""
        actions = running.actions()
        assert [a["seq"] for a in actions] == list(range(1, len(actions) + 1))
        assert {a["outcome"] for a in actions} <= {"ok"}, [a for a in actions if a["outcome"] != "ok"]
        logged = [(a["resource_kind"], a["resource_name"]) for a in actions]
        assert len(logged) == len(set(logged)), "written twice for one spec"
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert set(logged) <= changed, "logged, and not to be seen"
        verbs = {(a["resource_kind"], a["resource_name"]): a["action"] for a in actions}
        for key, verb in verbs.items():
            uids = before.get(key, (None,))[0], after.get(key, (None,))[0]
            expected = {"Create": (None, uids[1]), "Delete": (uids[0], None), "Update": (uids[0], uids[0])}[verb]
            assert uids == expected, (verb, key)
        unlogged = changed - set(logged)
        assert len(unlogged) <= _WRITERS, unlogged
        self.unlogged += len(unlogged)

    def _seen(self) -> dict[tuple[str, str], tuple[str, int]]:
        """Uid and version; of a Deployment the generation, for its status is not the operator's."""
        return {
            key: (obj["metadata"]["uid"], int(obj["metadata"].get("generation") or obj["metadata"]["resourceVersion"]))
            for key, obj in self.sandbox.children().items()
        }

    def _at_rest(self) -> dict[tuple[str, str], tuple[str, int]]:
        """What is there when the API server is done with the requests of the dead, too."""
        seen = self._seen()
        while True:
            time.sleep(0.2)
            if (again := self._seen()) == seen:
                return seen
            seen = again


def _kill_again_and_again(new_sandbox: NewSandbox, *, kills: int, size: int, moments: int) -> _Kills:
    sandbox, seed = new_sandbox(), time.time_ns() % 1_000_000
    print(f"seed {seed}")  # noqa: T201 - to try the same again
    random_ = random.Random(seed)  # noqa: S311 - moments, not secrets
    sandbox.apply(moving(size, 0))
    with sandbox.operator() as operator:
        built(operator, "build-0", 120)
    loop = _Kills(sandbox, turn=1)
    sandbox.replace(moving(size, 1))
    for _ in range(kills):
        loop.kill_once(random_, size, random_.randrange(moments))
    with sandbox.operator() as operator:
        built(operator, f"build-{loop.turn}", 120)
        told = f"{kills} kills, {loop.in_mid_update} in mid-update, {loop.turn} builds, {loop.unlogged} in flight"
        print(told)  # noqa: T201 - what the loop has met
        assert sandbox.outstanding() == ()
        assert sandbox.contents() == _fresh(new_sandbox, moving(size, loop.turn))
        # Component n came with build (n - size + 1) / 2, and each build since then has changed it.
        generations = {
            int(name.removeprefix("deploy-c")): obj["metadata"]["generation"]
            for (kind, name), obj in sandbox.children().items()
            if kind == "Deployment"
        }
        came = {n: max(0, (n - size) // 2 + 1) for n in generations}
        assert generations == {n: 1 + loop.turn - came[n] for n in generations}
    return loop


def test_r02_killed_again_and_again_during_an_update_it_ends_where_it_should(new_sandbox: NewSandbox) -> None:
    """Four kills at random moments: no orphan, no duplicate, no lost field, and each write that landed is explained."""
    assert _kill_again_and_again(new_sandbox, kills=4, size=20, moments=40).in_mid_update > 0


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_r02_killed_fifty_times_during_updates_of_a_hundred_components(new_sandbox: NewSandbox) -> None:
    """The same with fifty kills."""
    assert _kill_again_and_again(new_sandbox, kills=50, size=100, moments=300).in_mid_update > 15


_ONE = spec(idle("a", env={"K": "1", "ONE": "x"}), idle("b"), build="one")
_TWO = spec(idle("a", env={"K": "2"}, port=9000), idle("c"), build="two")
_STEP_WRITES = 9
"""From one to the other: an Update, a Create and a Delete of each kind."""


def _crash_points(new_sandbox: NewSandbox, proxy: CrashingProxy, points: list[tuple[int, bool]]) -> None:
    """From one spec to the other and back, with a crash on each way."""
    sandbox = new_sandbox()
    through = str(sandbox.kubeconfig_for(f"http://127.0.0.1:{proxy.server_address[1]}"))
    expected = [_fresh(new_sandbox, value) for value in (_ONE, _TWO)]
    sandbox.apply(_ONE)
    with sandbox.operator() as operator:
        settled(operator)
    for way, (point, landed) in enumerate(points):
        value, wanted = ((_TWO, expected[1]), (_ONE, expected[0]))[way % 2]
        sandbox.replace(value)
        proxy.arm(point, landed=landed)
        crashed = sandbox.start({"KUBECONFIG": through}, until_ready=False)
        proxy.victim = crashed.process
        assert crashed.process.wait(60) == -signal.SIGKILL
        crashed.client.close()
        done = point if landed else point - 1
        assert len(sandbox.outstanding()) == _STEP_WRITES - done, (point, landed, proxy.writes)
        assert len(crashed.actions()) <= done
        with sandbox.operator() as operator:
            built(operator, value["buildId"])
            rest = [(a["action"], a["resource_name"]) for a in operator.actions()]
            assert len(rest) == len(set(rest)) == _STEP_WRITES - done, (point, landed, proxy.writes, rest)
            assert sandbox.contents() == wanted, (point, landed, proxy.writes)


def test_r02_killed_before_and_after_a_write(new_sandbox: NewSandbox, sandbox: Sandbox) -> None:
    """At one write before the API server saw it, at one after it carried it out: the next operator makes the rest."""
    with crashing_proxy(sandbox.kubeconfig) as proxy:
        _crash_points(new_sandbox, proxy, [(4, False), (6, True)])


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_r02_killed_before_and_after_every_write(new_sandbox: NewSandbox, sandbox: Sandbox) -> None:
    """The same at each write of an update, on both ways."""
    points = [(n, landed) for n in range(1, _STEP_WRITES + 1) for landed in (False, True)]
    with crashing_proxy(sandbox.kubeconfig) as proxy:
        _crash_points(new_sandbox, proxy, [point for point in points for _ in range(2)])


class _Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _CollectorHandler)
        self.spans: list[Span] = []


class _CollectorHandler(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


@pytest.fixture
def collector() -> Iterator[_Collector]:
    """A collector of spans on loopback."""
    server = _Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _kubelets_patience_s() -> int:
    """Seconds from SIGTERM to SIGKILL, as the operator's Deployment asks for."""
    documents = yaml.safe_load_all((MANIFESTS / "operator-deployment.yaml").read_text())
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    return int(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])


def test_r23_sigterm_ends_in_order(control_plane: ControlPlane, sandbox: Sandbox, collector: _Collector) -> None:
    """In the middle of an apply the operator waits up to 10 s for the writes in flight, sends its spans and exits 0.

    All of it is done before the kubelet would lose its patience.
    """
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    # Nothing but the end makes it send spans.
    with sandbox.operator(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="600000") as operator:
        sandbox.apply(spec(*(idle(f"c{n}") for n in range(150))))
        wait("the first writes", lambda: len(operator.actions()) > 5)
        assert collector.spans == []
        control_plane.kill("kube-apiserver", signal.SIGSTOP)
        try:
            started, started_at = time.monotonic(), datetime.now(UTC)
            operator.process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                operator.process.wait(2)
        finally:
            control_plane.kill("kube-apiserver", signal.SIGCONT)
        assert operator.process.wait(20) == 0
        assert time.monotonic() - started < _kubelets_patience_s()
        actions = operator.actions()
        assert datetime.fromisoformat(actions[-1]["time"]) - started_at <= timedelta(seconds=10)
        assert len(actions) < 450
        assert [a["seq"] for a in actions] == list(range(1, len(actions) + 1))
        assert {a["outcome"] for a in actions} == {"ok"}
        assert len(sandbox.children()) == len(actions)
        writes = {span.span_id.hex(): span for span in collector.spans if span.name.startswith("apply ")}
        assert set(writes) == {a["span_id"] for a in actions}
        roots = {span.span_id for span in collector.spans if span.name == "reconcile"}
        assert {span.parent_span_id for span in writes.values()} <= roots
