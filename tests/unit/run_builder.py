"""Run directories made by hand: what the recorder and the collector would have written, as small as a test needs."""

import json
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base import clock, files
from k8s_e2e.model.evidence import Action, Actions, EventRevision, Manifest, ObjectRevision, Part, SealedFile, Traces
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.results import RequestRecord, Results, ScenarioResult, StepResult
from k8s_e2e.model.run import ImageRecord, RunRecord, StageOutcome

EPOCH = clock.epoch("2026-01-02T03:00:00Z")
NAMESPACE = "turbo-engine-e2e"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc33"
    "0000000049454e44ae426082"
)


def at(second: float) -> str:
    """Return the moment ``second`` seconds into the run."""
    return clock.rfc3339(EPOCH + second)


class RunBuilder:
    """Collects what a run left and writes it with `write`."""

    def __init__(self, root: Path) -> None:
        self.run = RunDir.claim(root)
        self.record = RunRecord(
            run_id="run-1",
            commit="0123abcd",
            profile="turbo-engine",
            started=at(0),
            provider="local",
            namespace=NAMESPACE,
        )
        self.results = Results(run_id="run-1", started=at(30))
        self.history: list[ObjectRevision] = []
        self.events: list[EventRevision] = []
        self.actions: list[Action] = []
        self.requests: list[RequestRecord] = []
        self.traces: list[dict[str, Any]] = []
        self.final: list[dict[str, Any]] = []
        self._number = 0
        self._created: dict[str, str] = {}

    def stage(self, name: str, start: float, took: float, status: Any = "passed", error: str = "", **more: Any) -> None:
        """Add a stage's outcome."""
        self.record.put(StageOutcome(name, status, at(start), took, error=error, **more))

    def scenario(self, name: str, *steps: StepResult, cleanup: tuple[StepResult, ...] = ()) -> None:
        """Add a scenario with its steps."""
        every = [*steps, *cleanup]
        failed = any(step.status == "failed" for step in every)
        took = sum(step.duration_s for step in every)
        self.results.scenarios.append(
            ScenarioResult(
                name=name, status="failed" if failed else "passed", started=every[0].started, duration_s=took,
                steps=list(steps), cleanup=list(cleanup), source=f"scenarios/{name}.yaml", captures={"env": "env-1"},
            )
        )  # fmt: skip
        self.results.total += len(every)
        self.results.passed += sum(step.status == "passed" for step in every)
        self.results.failed += sum(step.status == "failed" for step in every)

    def object(self, second: float, obj: dict[str, Any], change: Any = "MODIFIED") -> dict[str, Any]:
        """Add a revision of an object as the recorder saw it."""
        self._number += 1
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{obj['kind']}-{meta['name']}")
        meta.setdefault("creationTimestamp", self._created.setdefault(meta["uid"], at(second)[:19] + "Z"))
        copied = json.loads(json.dumps(obj))
        copied["metadata"]["resourceVersion"] = str(self._number)
        self.history.append(
            ObjectRevision(
                seen=at(second), change=change, kind=obj["kind"], api_version=obj["apiVersion"], name=meta["name"],
                uid=meta["uid"], resource_version=str(self._number), namespace=NAMESPACE, object=copied,
            )
        )  # fmt: skip
        return obj

    def event(self, second: float, ref: str, reason: str, message: str, kind: str = "Warning", count: int = 1) -> None:
        """Add a revision of an event about ``ref`` (`Kind/name`)."""
        self._number += 1
        about, _, name = ref.partition("/")
        self.events.append(
            EventRevision(
                time=at(second), seen=at(second), uid=f"event-{self._number}", name=f"{name}.{self._number}", type=kind,
                reason=reason, message=message, count=count, kind=about, object=name, source="kubelet",
            )
        )  # fmt: skip

    def deployment(self, second: float, name: str, *, available: int, owner: dict[str, Any] | None = None,
                   image: str = "img:1", **status: Any) -> dict[str, Any]:  # fmt: skip
        """Add a revision of a Deployment that wants one replica."""
        obj = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, **_owned(owner)},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "main", "image": image}]}}},
            "status": {"replicas": 1, "updatedReplicas": 1, **({"availableReplicas": 1} if available else
                       {"unavailableReplicas": 1}), **status},
        }  # fmt: skip
        return self.object(second, obj)

    def replica_set(self, second: float, name: str, owner: dict[str, Any]) -> dict[str, Any]:
        """Add a ReplicaSet of ``owner``."""
        obj = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, **_owned(owner)},
               "spec": {"replicas": 1, "template": {"spec": {}}}}  # fmt: skip
        return self.object(second, obj, "ADDED")

    def pod(
        self,
        second: float,
        name: str,
        *,
        owner: dict[str, Any] | None = None,
        image: str = "img:1",
        ready: bool = False,
        state: dict[str, Any] | None = None,
        last: dict[str, Any] | None = None,
        restarts: int = 0,
        change: Any = "MODIFIED",
        env: dict[str, str] | None = None,
        account: str = "default",
        labels: dict[str, str] | None = None,
        scheduled: bool = True,
    ) -> dict[str, Any]:
        """Add a revision of a pod with one container, ``main``."""
        conditions = [
            {"type": "PodScheduled", "status": str(scheduled), "lastTransitionTime": at(second)[:19] + "Z"},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": at(second)[:19] + "Z"},
        ]
        if not scheduled:
            conditions[0] |= {"reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}
        spec = {"name": "main", "image": image, "env": [{"name": k, "value": v} for k, v in (env or {}).items()]}
        obj: dict[str, Any] = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {}, **_owned(owner)},
            "spec": {"containers": [spec], "nodeName": "node-1" if scheduled else "", "serviceAccountName": account},
            "status": {"phase": "Running" if ready else "Pending", "conditions": conditions, "containerStatuses": [
                {"name": "main", "image": image, "ready": ready, "restartCount": restarts, "lastState": last or {},
                 "state": state or ({"running": {"startedAt": at(second)}} if ready else
                                    {"waiting": {"reason": "ContainerCreating"}})}]},
        }  # fmt: skip
        return self.object(second, obj, change)

    def log(self, pod: str, *lines: str | bytes, container: str = "main", previous: bool = False) -> None:
        """Write a container's log: JSON lines, text or bytes, each with its time in front."""
        path = self.run.pod_logs / pod / f"{container}{'.previous' if previous else ''}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = f"==> {pod}/{container} run=0 uid=u <==\n".encode()
        for number, line in enumerate(lines):
            raw += f"{at(40 + number)} ".encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n"
        path.write_bytes(raw)
        (self.run.k8s / f"logs-{pod.rsplit('-', 2)[0]}.txt").write_bytes(raw)

    def span(self, trace: str, span: str, service: str, operation: str, start: float, took: float, parent: str = "",
             error: bool = False) -> None:  # fmt: skip
        """Add one span as Jaeger tells it."""
        found = next((one for one in self.traces if one["traceID"] == trace), None)
        if found is None:
            found = {"traceID": trace, "spans": [], "processes": {}}
            self.traces.append(found)
        found["processes"][service] = {"serviceName": service, "tags": []}
        found["spans"].append(
            {
                "traceID": trace, "spanID": span, "operationName": operation, "processID": service,
                "startTime": round((EPOCH + start) * 1e6), "duration": round(took * 1e6),
                "references": [{"refType": "CHILD_OF", "traceID": trace, "spanID": parent}] if parent else [],
                "tags": [{"key": "error", "type": "bool", "value": True}] if error else [], "logs": [],
            }
        )  # fmt: skip

    def write(self) -> RunDir:
        """Write every file of the run directory."""
        run = self.run
        files.write_json(run.run_json, self.record)
        files.write_json(run.results, self.results)
        _lines(run.history, self.history)
        _lines(run.events, self.events)
        _lines(run.requests, self.requests)
        files.write_json(run.actions, Actions(count=len(self.actions), actions=self.actions))
        files.write_json(run.resources, {"apiVersion": "v1", "kind": "List", "items": self.final})
        files.write_json(run.traces, Traces(captured_at=at(100), data=self.traces))
        files.write_json(run.trace_analysis, {"schema_version": 1})
        run.pod_logs.mkdir(parents=True, exist_ok=True)
        run.screenshots.mkdir(exist_ok=True)
        (run.screenshots / "01-console.png").write_bytes(PNG)
        files.write_json(run.screenshots / "01-console.json", {"url": "/environments", "time": at(50), "step": "a/01"})
        parts = [Part(name="resources", status="ok", duration_s=0.2)]
        sealed = [SealedFile(path="k8s/events.jsonl", sha256="0" * 64, bytes=12, redactions=1)]
        manifest = Manifest(run_id="run-1", sealed=at(110), files=sealed, parts=parts, redactions={"bearer": 1})
        files.write_json(run.manifest, manifest)
        return run


def step(number: int, second: float, took: float, status: Any = "passed", *, name: str = "", scenario: str = "users",
         kind: str = "assert", **more: Any) -> StepResult:  # fmt: skip
    """Return one step's result."""
    title = name or f"step {number}"
    return StepResult(id=f"{scenario}/{number:02d}", name=title, kind=kind, status=status, started=at(second),
                      duration_s=took, **more)  # fmt: skip


def stages(builder: RunBuilder, *, test: Any = "passed", error: str = "") -> None:
    """Add the outcomes of a run that came to its end."""
    builder.stage("deploy", 0, 30)
    builder.stage("test", 30, 60, test, error, exit_code=1 if error else 0)
    builder.stage("collect", 90, 8)
    builder.stage("trace-analysis", 98, 2)


def green(root: Path) -> RunBuilder:
    """A run in which all went well: platform, one environment, its deletion."""
    builder = RunBuilder(root)
    stages(builder)
    builder.record.images = [ImageRecord("turbo-engine/registry:e2e", digest="sha256:1", bytes=1000, source="built")]
    for number, name in enumerate(("registry", "builder", "operator")):
        deployment = builder.deployment(10 + number, name, available=0)
        rs = builder.replica_set(10.1 + number, f"{name}-5c", deployment)
        builder.pod(10.2 + number, f"{name}-5c-x1", owner=rs, labels={"app": name}, change="ADDED")
        builder.pod(14.2 + number, f"{name}-5c-x1", owner=rs, labels={"app": name}, ready=True)
        builder.deployment(14.5 + number, name, available=1)
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}},
        }
        builder.object(9, service, "ADDED")
        builder.event(11 + number, f"Pod/{name}-5c-x1", "Pulled", "image is present", "Normal")
        builder.log(f"{name}-5c-x1", '{"level":"info","msg":"listening","port":8081}')
    builder.event(13, "Pod/builder-5c-x1", "Unhealthy", "Readiness probe failed: connection refused")
    graph = _graph(builder, 40, ready="False")
    deployment = builder.deployment(41, "deploy-users", available=0, owner=graph)
    rs = builder.replica_set(41.1, "deploy-users-7d", deployment)
    builder.pod(41.2, "deploy-users-7d-z9", owner=rs, change="ADDED")
    builder.pod(43, "deploy-users-7d-z9", owner=rs, ready=True)
    builder.deployment(43.1, "deploy-users", available=1, owner=graph)
    _graph(builder, 43.2, ready="True")
    for number, kind in enumerate(("ConfigMap", "Service", "Deployment")):
        prefix = {"ConfigMap": "cm", "Service": "svc", "Deployment": "deploy"}[kind]
        builder.actions.append(_action(number + 1, 40.5 + number / 10, "Create", kind, f"{prefix}-users"))
    builder.requests.append(request(35, "users/01", "registry", 201))
    builder.span("t1", "s1", "registry", "POST /v1/packages", 35, 0.08)
    builder.span("t1", "s2", "registry", "INSERT", 35.01, 0.02, parent="s1")
    steps = [step(1, 35, 0.1, name="publish users", kind="http"), step(2, 36, 7.5, name="deployment is available")]
    builder.scenario("users", *steps, cleanup=(step(3, 80, 1, name="delete", kind="http"),))
    builder.final = [
        json.loads(json.dumps(revision.object)) for revision in builder.history if revision.kind == "Service"
    ]
    return builder


def red_image(root: Path) -> RunBuilder:
    """A run whose step failed because the image that the custom resource asks for does not exist."""
    builder = green(root)
    image = "example.test/users:nope"
    graph = _graph(builder, 50, ready="False", image=image)
    deployment = builder.deployment(50.1, "deploy-users", available=0, owner=graph, image=image)
    rs = builder.replica_set(50.2, "deploy-users-8f", deployment)
    builder.pod(50.3, "deploy-users-8f-q2", owner=rs, image=image, change="ADDED")
    message = f'failed to pull image "{image}": manifest unknown: not found'
    pulling = {"waiting": {"reason": "ErrImagePull", "message": message}}
    builder.pod(51.5, "deploy-users-8f-q2", owner=rs, image=image, state=pulling)
    backoff = {"waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}}
    builder.pod(55, "deploy-users-8f-q2", owner=rs, image=image, state=backoff)
    builder.event(51.5, "Pod/deploy-users-8f-q2", "Failed", message)
    builder.event(55, "Pod/deploy-users-8f-q2", "BackOff", "Back-off pulling image", count=4)
    fail(
        builder,
        expected={"status": {"availableReplicas": 1}}, actual={"status": {"unavailableReplicas": 1}},
        diff="status.availableReplicas: expected 1, got nothing", last_seen="Deployment/deploy-users 0 of 1 available",
        stuck_at="publish -> build -> APIGraph -> Deployment -> ReplicaSet -> Pod | Ready -> route",
        hopeless="Pod/deploy-users-8f-q2 main: ImagePullBackOff",
    )  # fmt: skip
    return builder


def red_crash(root: Path) -> RunBuilder:
    """A run whose step failed because version 2 ends with an exception."""
    builder = green(root)
    graph = _graph(builder, 50, ready="False")
    deployment = builder.deployment(50.1, "deploy-users", available=0, owner=graph, image="shop:2")
    rs = builder.replica_set(50.2, "deploy-users-9a", deployment)
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at(51), "finishedAt": at(52)}}
    loop = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
    builder.pod(50.3, "deploy-users-9a-c3", owner=rs, image="shop:2", change="ADDED")
    builder.pod(52, "deploy-users-9a-c3", owner=rs, image="shop:2", state=ended)
    builder.pod(53, "deploy-users-9a-c3", owner=rs, image="shop:2", state=loop, last=ended, restarts=4)
    builder.log("deploy-users-9a-c3", "Traceback (most recent call last):", '  File "app.py", line 3, in <module>',
                "KeyError: 'DATABASE_URL'", previous=True)  # fmt: skip
    fail(builder, last_seen="Deployment/deploy-users 0 of 1 available", hopeless="deploy-users: CrashLoopBackOff")
    return builder


def red_rbac(root: Path) -> RunBuilder:
    """A run whose step failed because the operator may not create Deployments."""
    builder = green(root)
    denied = (
        'deployments.apps is forbidden: User "system:serviceaccount:turbo-engine-e2e:operator" cannot create resource '
        '"deployments" in API group "apps" in the namespace "turbo-engine-e2e"'
    )
    builder.history = [row for row in builder.history if "deploy-users" not in row.name]
    builder.actions = [_action(1, 40.5, "Create", "Deployment", "deploy-users", outcome="failed", status=403)]
    _graph(builder, 45, ready="False", degraded="True")
    pod = next(row for row in builder.history if row.name == "operator-5c-x1").object
    pod["spec"]["serviceAccountName"] = "operator"
    builder.log("operator-5c-x1", json.dumps({"level": "error", "msg": "apply failed", "error": denied}))
    fail(builder, last_seen="Deployment/deploy-users does not exist")
    return builder


def fail(builder: RunBuilder, **seen: Any) -> None:
    """Let the second step fail."""
    builder.results = Results(run_id="run-1", started=at(30))
    failed = step(2, 50, 20, "failed", name="deployment is available", message="waited 20 s for deploy-users", **seen)
    skipped = step(3, 70, 0, "skipped", name="rollback")
    builder.scenario("users", step(1, 35, 0.1, name="publish users", kind="http"), failed, skipped)
    stages(builder, test="failed", error="1 of 3 steps failed; first users/02")


def _owned(owner: dict[str, Any] | None) -> dict[str, Any]:
    if owner is None:
        return {}
    meta = owner["metadata"]
    reference = {"kind": owner["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {"ownerReferences": [{"apiVersion": owner["apiVersion"], **reference}]}


def _graph(
    builder: RunBuilder, second: float, *, ready: str, image: str = "img:1", degraded: str = "False"
) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": ready, "reason": "Rollout", "message": "1 component"},
        {"type": "Degraded", "status": degraded, "reason": "ApplyFailed", "message": "403"},
    ]
    obj = {
        "apiVersion": "turboengine.io/v1", "kind": "APIGraph", "metadata": {"name": "env-1", "generation": 1},
        "spec": {"components": [{"packageName": "users", "runtime": {"image": image}}]},
        "status": {"phase": "Running", "observedGeneration": 1, "conditions": conditions},
    }  # fmt: skip
    return builder.object(second, obj)


def _action(seq: int, second: float, verb: str, kind: str, name: str, outcome: str = "ok", status: int = 201) -> Action:
    return Action(time=at(second), action=verb, resource_kind=kind, resource_name=name, environment_id="env-1", seq=seq,
                  pod_uid="u", outcome=outcome, http_status=status, duration_ms=12.5, trace_id="t1")  # fmt: skip


def request(second: float, step_id: str, service: str, status: int, error: str = "") -> RequestRecord:
    """Return one request of the kit; status 0 = no answer."""
    sent = {"time": at(second), "traceparent": "00-t1-s0-01", "trace_id": "t1", "step": step_id, "method": "POST"}
    url = f"http://{service}/v1"
    return RequestRecord(**sent, service=service, url=url, status=status, duration_s=0.09, error=error)


def _lines(path: Path, values: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
