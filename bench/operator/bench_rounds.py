"""One round: what is measured, and how."""

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bench_tables import Figures

from k8s_e2e.base.progress import silent
from k8s_e2e.cluster.local import cgroups, teardown
from k8s_e2e.cluster.local.provider import LocalProvider
from k8s_e2e.model.settings import Settings
from turbo_operator.core import names
from turbo_operator.core.desired import Object, Options, Owner, desired
from turbo_operator.core.fields import slim
from turbo_operator.core.graph import Graph
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import plan
from turbo_operator.kube.client import APPLY, RESOURCES, KubeClient

sys.path.append(str(Path(__file__).parents[2] / "operator" / "tests"))
from sandbox import OperatorProcess, Sandbox, make_sandbox, wait

_TICKS = os.sysconf("SC_CLK_TCK")
_THREADS = 16
_CREATE_S = {1: 0.06, 10: 0.3, 100: 1.5, 300: 4.5, 1000: 16.0}


class ApiServer:
    """The kube-apiserver's process and its neighbours."""

    def __init__(self, kubeconfig: Path) -> None:
        self._pids: dict[str, int] = {}
        for parent in teardown.processes(kubeconfig.parent):
            for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode()
                self._pids[command.rsplit("/", 1)[-1]] = int(child)

    def without_controllers(self) -> None:
        """Stop kube-controller-manager: ReplicaSets and status updates are not what is measured."""
        os.kill(self._pids["kube-controller-manager"], signal.SIGSTOP)

    def cpu_s(self) -> float:
        """CPU time that kube-apiserver has used, in seconds."""
        fields = Path(f"/proc/{self._pids['kube-apiserver']}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


class Bench:
    """One round, each measurement against a control plane of its own."""

    def __init__(self, folder: Path, figures: Figures) -> None:
        self._provider = LocalProvider(Settings(state_dir=folder / "state"))
        self._folder = folder
        self._figures = figures

    # -- what is measured ---------------------------------------------------------------------------------------

    def create(self, size: int) -> None:
        """Make all objects of a new graph, beside the bare loop."""
        with self._control_plane() as (sandbox, server):
            cpu_before = server.cpu_s()
            bare_s = _bare_loop(_client(sandbox), size)
            cpu_bare_s = server.cpu_s() - cpu_before
        with self._control_plane() as (sandbox, _), _watches(sandbox):
            watched_s = _bare_loop(_client(sandbox), size)
        with self._control_plane() as (sandbox, server), sandbox.operator() as operator:
            cpu_before = server.cpu_s()
            ours_s = _carried_out(sandbox, operator, _spec(size), writes=3 * size)
            cpu_s = server.cpu_s() - cpu_before
        add = self._figures.add
        add(f"create N={size}: bare loop", bare_s, "s")
        add(f"create N={size}: bare loop beside unread watches", watched_s, "s")
        add(f"create N={size}: operator", ours_s, "s", _CREATE_S.get(size))
        if size > 1:  # one write is below the step of the CPU clock
            add(f"create N={size}: operator / bare loop", ours_s / bare_s, "", 1.2)
            add(f"create N={size}: operator / bare loop beside unread watches", ours_s / watched_s, "")
            add(f"create N={size}: API server CPU a write, bare loop", cpu_bare_s * 1000 / (3 * size), "ms")
            add(f"create N={size}: API server CPU a write, operator", cpu_s * 1000 / (3 * size), "ms")

    def touch(self, size: int, changed: int) -> None:
        """Change the configuration of some components of a graph that is carried out."""
        with self._control_plane() as (sandbox, _), sandbox.operator() as operator:
            _carried_out(sandbox, operator, _spec(size), writes=3 * size)
            _settled(operator)
            before = len(operator.actions())
            seconds = _carried_out(sandbox, operator, _spec(size, touched=changed), writes=2 * changed)
            _settled(operator)
            writes = len(operator.actions()) - before
        self._figures.add(f"touch {changed} of N={size}", seconds, "s", 0.3)
        self._figures.add(f"touch {changed} of N={size}: writes", writes, "", 2 * changed)

    def restart(self, size: int) -> None:
        """Start over objects that are as they should be."""
        with self._control_plane() as (sandbox, _):
            with sandbox.operator() as operator:
                _carried_out(sandbox, operator, _spec(size), writes=3 * size)
                _settled(operator)
                operator.end()
            versions = sandbox.versions()
            began = time.monotonic()
            with sandbox.operator() as operator:
                wait("the first reconcile", lambda: operator.metric("turbo_operator_reconciles_total") >= 1)
                seconds = time.monotonic() - began
                _settled(operator)
                changed = sum(sandbox.versions()[key] != version for key, version in versions.items())
                writes = len(operator.actions()) + changed
        self._figures.add(f"restart, N={size}, nothing changed", seconds, "s", 2.0)
        self._figures.add(f"restart, N={size}: writes", writes, "", 0)

    def memory_and_status(self, size: int) -> None:
        """Memory idle and with a large graph; answers about one environment while a large one is carried out."""
        add = self._figures.add
        with self._control_plane() as (sandbox, _), sandbox.operator() as operator:
            add("RSS idle", _memory_mib(operator, "VmRSS"), "MiB", 75)
            _carried_out(sandbox, operator, _spec(1, environment="small"), writes=3)
            answers_s: list[float] = []
            over = threading.Event()
            asking = threading.Thread(target=_ask, args=(operator, over, answers_s))
            asking.start()
            _carried_out(sandbox, operator, _spec(size), writes=3 * size)
            over.set()
            asking.join()
            p99_ms = 1000 * statistics.quantiles(answers_s, n=100)[98]
            add(f"GET /v1/status/ENV while N={size} is made, p99", p99_ms, "ms", 50)
            _settled(operator)
            add(f"RSS N={size}", _memory_mib(operator, "VmRSS"), "MiB", 140)
            add(f"RSS N={size}, highest", _memory_mib(operator, "VmHWM"), "MiB", 140)
            _plan(sandbox, size, self._figures)

    def cold_start(self) -> None:
        """From the start of the process to `/readyz`, at one CPU and at 200m."""
        with self._control_plane() as (sandbox, _):
            for millicores, target_s in ((1000, 2.0), (200, 6.0)):
                with _cpu_limit(millicores) as group:
                    began = time.monotonic()
                    join = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
                    process = sandbox.start(through=join)
                    seconds = time.monotonic() - began
                    process.end(signal.SIGKILL)
                    process.client.close()
                self._figures.add(f"cold start to ready at {millicores}m CPU", seconds, "s", target_s)

    @contextmanager
    def _control_plane(self) -> Iterator[tuple[Sandbox, ApiServer]]:
        """A fresh one, with the operator's namespace and account in it, whose API server has served every kind."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            try:
                kubeconfig = self._provider.up("bench-operator", control_plane_only=True, progress=silent).kubeconfig
                server = ApiServer(kubeconfig)
                server.without_controllers()
                for namespace in ("warm-up", "bench"):
                    folder = Path(name) / namespace
                    folder.mkdir()
                    sandbox = make_sandbox(kubeconfig, namespace, folder)
                    if namespace == "warm-up":
                        _bare_loop(sandbox.admin, _THREADS)
                        sandbox.apply(_spec(1))
                yield sandbox, server
            finally:
                self._provider.down("bench-operator", progress=silent)


def _spec(size: int, *, touched: int = 0, environment: str = "bench") -> dict[str, Any]:
    components = [
        {
            "packageName": f"{environment}-{number:04}",
            "packageVersion": "1.0.0",
            "kind": "rest-service",
            "artifactHash": f"sha256:{number:064x}",
            "runtime": {"replicas": 0, "env": {"GREETING": "hello" if number >= touched else "changed"}},
        }
        for number in range(size)
    ]
    return {
        "environmentId": environment,
        "buildId": "1",
        "rootPackage": f"{environment}-0000",
        "components": components,
    }


def _wanted(size: int, owner: Owner) -> tuple[Graph, tuple[Object, ...]]:
    graph = normalize(_spec(size))
    assert isinstance(graph, Graph)
    return graph, desired(graph, owner, Options())


def _bare_loop(client: KubeClient, size: int) -> float:
    """Seconds that 16 threads take for the applies of a new graph."""
    _, objects = _wanted(size, Owner("bench", "00000000-0000-0000-0000-000000000000"))
    query = {"fieldManager": names.MANAGER, "force": "true"}

    def apply(obj: Object) -> None:
        path = client.path(obj["kind"], obj["metadata"]["name"])
        client.request("PATCH", path, query=query, body=obj, content_type=APPLY)

    began = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(apply, objects))
    return time.monotonic() - began


def _client(sandbox: Sandbox) -> KubeClient:
    """A client with the operator's account."""
    return KubeClient.from_environment(sandbox.namespace, str(sandbox.kubeconfig))


@contextmanager
def _watches(sandbox: Sandbox) -> Iterator[None]:
    """Watches of the three kinds whose bytes nobody looks at: what the API server does for any operator."""
    document = json.loads(sandbox.kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    connections = []
    for kind in names.KIND_ORDER:
        connection = http.client.HTTPSConnection(
            cluster["server"].removeprefix("https://"), context=ssl.create_default_context(cadata=authority)
        )
        path = f"{sandbox.admin.path(kind)}?watch=true&allowWatchBookmarks=true"
        connection.request("GET", path, headers={"Authorization": f"Bearer {user['token']}"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        threading.Thread(target=_read_on, args=(answer,), daemon=True).start()
        connections.append(connection)
    yield
    for connection in connections:
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)


def _read_on(answer: http.client.HTTPResponse) -> None:
    with suppress(OSError, http.client.HTTPException):
        while answer.read1(1 << 16):
            pass


def _carried_out(sandbox: Sandbox, operator: OperatorProcess, spec: dict[str, Any], *, writes: int) -> float:
    """Apply a graph; seconds from the request to the acknowledgement of its last write, as the action log dates it."""
    before = operator.log.stat().st_size
    began = time.time()
    sandbox.apply(spec)
    found: list[dict[str, Any]] = []
    rest = ""
    deadline = time.monotonic() + 120
    with operator.log.open() as log:
        log.seek(before)
        while len(found) < writes:
            assert time.monotonic() < deadline, f"{len(found)} of {writes} writes after 120 s"
            rest += log.read()
            *lines, rest = rest.split("\n")
            actions = [line for line in map(json.loads, lines) if line.get("event") == "operator.action"]
            assert all(action["outcome"] == "ok" for action in actions), actions
            found += actions
            time.sleep(0.1 if writes > 100 else 0.005)
    return max(datetime.fromisoformat(action["time"]).timestamp() for action in found) - began


def _settled(operator: OperatorProcess) -> None:
    """Wait until status writes and the last looks are over: one second without a reconcile."""

    def looks() -> float:
        return operator.metric("turbo_operator_reconciles_total") + operator.metric(
            "turbo_operator_status_writes_total"
        )

    before = -1.0
    while (now := looks()) != before:
        before = now
        time.sleep(1)


def _ask(operator: OperatorProcess, over: threading.Event, answers_s: list[float]) -> None:
    while not over.wait(0.02):
        began = time.monotonic()
        assert operator.get("/v1/status/small") is not None
        answers_s.append(time.monotonic() - began)


def _plan(sandbox: Sandbox, size: int, figures: Figures) -> None:
    """The plan alone: of a graph of which nothing is there, and of one where nothing is to be done."""
    graph_object = sandbox.get(names.GRAPH_KIND, "bench")
    assert graph_object is not None
    owner = Owner("bench", graph_object["metadata"]["uid"])
    graph, wanted = _wanted(size, owner)
    began = time.perf_counter()
    assert len(plan(graph, wanted, {}, owner)) == 3 * size
    figures.add(f"plan N={size}, all to be made", 1000 * (time.perf_counter() - began), "ms", 150)
    observed = {
        (kind, obj["metadata"]["name"]): {**slim(obj), "kind": kind, "apiVersion": RESOURCES[kind][0]}
        for kind in names.KIND_ORDER
        for obj in sandbox.list(kind)
    }
    began = time.perf_counter()
    mine = {key: obj for key, obj in observed.items() if not key[1].endswith("small-0000")}
    assert plan(graph, wanted, mine, owner) == ()
    figures.add(f"plan N={size}, nothing to be done", 1000 * (time.perf_counter() - began), "ms", 150)


def _memory_mib(operator: OperatorProcess, field: str) -> float:
    for line in Path(f"/proc/{operator.process.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


@contextmanager
def _cpu_limit(millicores: int) -> Iterator[Path]:
    """A control group (version 1 or 2) with a CPU quota."""
    first, second = cgroups.hierarchies()
    root = next((path for path in first if "cpu" in path.name.split(",")), None)
    home = root or second
    assert home is not None, "no control groups here"
    group = home / f"bench-operator-{os.getpid()}"
    group.mkdir()
    try:
        if root is not None:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(millicores * 100))
        else:
            (group / "cpu.max").write_text(f"{millicores * 100} 100000")
        yield group
    finally:
        group.rmdir()
