"""A namespace of a real API server with the operator's rights in it, and the operator as a process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from turbo_operator.core import names
from turbo_operator.core.desired import Options, Owner, desired
from turbo_operator.core.fields import slim
from turbo_operator.core.graph import Graph
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import Action, plan
from turbo_operator.kube.client import APPLY, ApiError, KubeClient, Unreachable

MANIFESTS = Path(__file__).parents[2] / "infra" / "k8s" / "base"


GC_S = 90.0
"""The garbage collector looks for new kinds every half minute: the first deletion of an APIGraph may wait for it."""


def wait(what: str, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait until `condition()` is true and give its value; a failure names what was waited for and the last value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}; last seen: {value!r}"
        time.sleep(0.05)
    return value


@dataclass
class OperatorProcess:
    """A running operator."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    client: httpx.Client

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def actions(self) -> list[dict[str, Any]]:
        """The finished actions in its log."""
        return [line for line in self.lines() if line.get("event") == "operator.action"]

    def get(self, path: str) -> Any:
        """JSON of a GET, None unless it is 200."""
        try:
            reply = self.client.get(path)
        except httpx.HTTPError:
            return None
        return reply.json() if reply.status_code == 200 else None

    def phase(self, environment_id: str) -> str | None:
        """Phase of an environment."""
        status = self.get(f"/v1/status/{environment_id}")
        return None if status is None else str(status["phase"])

    def alive(self) -> bool:
        """Whether the process runs and /healthz says so."""
        return self.process.poll() is None and self.client.get("/healthz").status_code == 200

    def unready(self) -> dict[str, str]:
        """What /readyz finds wrong, by check; empty if it is ready."""
        reply = self.client.get("/readyz")
        return {} if reply.status_code == 200 else {k: v for k, v in reply.json()["checks"].items() if v != "ok"}

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.client.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@dataclass
class Sandbox:
    """A namespace; `admin` may do everything in it, `kubeconfig` is what the operator gets."""

    admin: KubeClient
    kubeconfig: Path
    directory: Path
    started: list[OperatorProcess] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """Its name."""
        return self.admin.namespace

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, None if there is none."""
        try:
            return self.admin.request("GET", self.admin.path(kind, name))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def written_phase(self, name: str) -> str | None:
        """The phase in the status of an APIGraph, None before one is written."""
        status = (self.get("APIGraph", name) or {}).get("status") or {}
        return status.get("phase")

    def list(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind but the cluster's own."""
        items = self.admin.request("GET", self.admin.path(kind))["items"]
        return [item for item in items if item["metadata"]["name"] != "kube-root-ca.crt"]

    def children(self) -> dict[tuple[str, str], dict[str, Any]]:
        """ConfigMaps, Services and Deployments by kind and name."""
        return {(kind, obj["metadata"]["name"]): obj for kind in names.KIND_ORDER for obj in self.list(kind)}

    def contents(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The children without what differs between two histories: uids, versions, times, allotted addresses."""
        return {key: _lasting(obj) for key, obj in self.children().items()}

    def outstanding(self, name: str = "env-1") -> tuple[Action, ...]:
        """The writes that are left to do for an APIGraph, as its spec and its children are now."""
        obj = self.get(names.GRAPH_KIND, name)
        assert obj is not None
        graph = normalize(obj["spec"])
        assert isinstance(graph, Graph)
        owner = Owner(name, obj["metadata"]["uid"])
        observed = {key: {**slim(child), "kind": key[0]} for key, child in self.children().items()}
        return plan(graph, desired(graph, owner, Options()), observed, owner)

    def answers(self) -> bool:
        """Whether the API server does."""
        try:
            for kind in ("ConfigMap", names.GRAPH_KIND):  # custom resources come later than the others
                self.admin.request("GET", self.admin.path(kind))
        except (ApiError, Unreachable):
            return False
        return True

    def versions(self) -> dict[tuple[str, str], str]:
        """ResourceVersion of all children and graphs; of Deployments, whose status others write, the generation."""
        objects = {("APIGraph", obj["metadata"]["name"]): obj for obj in self.list("APIGraph")} | self.children()
        field = {"Deployment": "generation"}
        return {key: str(obj["metadata"][field.get(key[0], "resourceVersion")]) for key, obj in objects.items()}

    def apply(self, spec: dict[str, Any], name: str | None = None) -> dict[str, Any]:
        """What `kubectl apply --server-side` does with an APIGraph."""
        name = name or names.graph_name(spec["environmentId"])
        body = {
            "apiVersion": names.GRAPH_API_VERSION,
            "kind": names.GRAPH_KIND,
            "metadata": {"name": name},
            "spec": spec,
        }
        query = {"fieldManager": "kubectl", "force": "true"}
        path = self.admin.path(names.GRAPH_KIND, name)
        return self.admin.request("PATCH", path, query=query, body=body, content_type=APPLY)

    def replace(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What `kubectl replace` does with the spec of an APIGraph."""
        path = self.admin.path(names.GRAPH_KIND, names.graph_name(spec["environmentId"]))
        patch = [{"op": "replace", "path": "/spec", "value": spec}]
        return self.admin.request("PATCH", path, body=patch, content_type="application/json-patch+json")

    def patch(self, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A merge patch, as by hand."""
        path = self.admin.path(kind, name)
        content_type = "application/merge-patch+json"
        return self.admin.request("PATCH", path, query={"fieldManager": "hand"}, body=body, content_type=content_type)

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """A new object."""
        return self.admin.request("POST", self.admin.path(kind), body=body)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        self.admin.request("DELETE", self.admin.path(kind, name))

    @contextmanager
    def operator(self, *, through: Sequence[str] = (), **environ: str) -> Iterator[OperatorProcess]:
        """A running operator in k8s mode; ready when given, killed at the end."""
        before = len(self.started)
        try:
            yield self.start(environ, through=through)
        finally:
            for process in self.started[before:]:
                process.close()

    def start(
        self, environ: Mapping[str, str] | None = None, *, through: Sequence[str] = (), until_ready: bool = True
    ) -> OperatorProcess:
        """Start an operator and wait until it is ready; `through` is a command that ends by executing its arguments."""
        environ = environ or {}
        port = int(environ.get("PORT") or _free_port())
        log = self.directory / f"operator-{len(self.started)}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            "OPERATOR_MODE": "k8s",
            "OPERATOR_NAMESPACE": self.namespace,
            "BUILDER_URL": "",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            **environ,
        }
        with log.open("wb") as output:
            command = [*through, sys.executable, "-m", "turbo_operator"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        running = OperatorProcess(process, port, log, client)
        self.started.append(running)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return running.get("/readyz") is not None

        if until_ready:
            wait("the operator to be ready", ready)
        return running

    def kubeconfig_for(self, server: str) -> Path:
        """A copy of the operator's kubeconfig that leads to another address of the API server."""
        document = json.loads(self.kubeconfig.read_text())
        for cluster in document["clusters"]:
            cluster["cluster"]["server"] = server
        return _private(self.directory / "other.kubeconfig", document)


def make_sandbox(kubeconfig: Path, namespace: str, directory: Path) -> Sandbox:
    """A new namespace with the CRD, the operator's ServiceAccount, Role and RoleBinding, and a token of it."""
    admin = KubeClient.from_environment(namespace, str(kubeconfig))
    admin.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    prefixes = {
        "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "ServiceAccount": f"/api/v1/namespaces/{namespace}/serviceaccounts",
        "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
        "RoleBinding": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    }
    for file in ("apigraph-crd.yaml", "operator-rbac.yaml"):
        for document in yaml.safe_load_all((MANIFESTS / file).read_text()):
            path = f"{prefixes[document['kind']]}/{document['metadata']['name']}"
            admin.request("PATCH", path, query={"fieldManager": "test"}, body=document, content_type=APPLY)

    def served() -> bool:
        try:
            admin.request("GET", admin.path(names.GRAPH_KIND))
        except ApiError:
            return False
        return True

    wait("the CRD to be served", served)
    token = admin.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/turbo-operator/token",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )["status"]["token"]
    document = yaml.safe_load(kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    return Sandbox(admin, _private(directory / f"{namespace}.kubeconfig", document), directory)


def settled(operator: OperatorProcess, environment_id: str = "env-1", phase: str = "Running") -> None:
    """Wait for a phase of an environment."""
    wait(f"{environment_id} to be {phase}", lambda: operator.phase(environment_id) == phase)


def later(sandbox: Sandbox, operator: OperatorProcess) -> None:
    """Have another graph carried out from its objects to its status: what was still to be done before it is done."""
    component = {
        "packageName": "later",
        "packageVersion": "1.0.0",
        "artifactHash": "sha256:later",
        "runtime": {"replicas": 0},
    }
    sandbox.apply({"environmentId": "later", "buildId": "later", "rootPackage": "later", "components": [component]})
    settled(operator, "later")
    wait("the status of the later graph", lambda: sandbox.written_phase("later") == "Running")


def built(operator: OperatorProcess, build_id: str, timeout_s: float = 60.0, phase: str = "Running") -> None:
    """Wait until the status of env-1 says a phase of a build."""
    _wait_for_status(operator, (build_id, phase), timeout_s, lambda status: status.get("phase"))


def applied(operator: OperatorProcess, build_id: str, timeout_s: float = 60.0) -> None:
    """Wait until all of a build of env-1 is written: after an outage the controllers take longer than the operator."""
    _wait_for_status(
        operator,
        (build_id, "True"),
        timeout_s,
        lambda status: {c["type"]: c["status"] for c in status.get("conditions", ())}.get("Applied"),
    )


def _wait_for_status(
    operator: OperatorProcess, wanted: tuple[str, str], timeout_s: float, part: Callable[[dict[str, Any]], Any]
) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        status = operator.get("/v1/status/env-1") or {}
        if (status.get("buildId"), part(status)) == wanted:
            return
        assert operator.process.poll() is None, operator.log.read_text()[-3000:]
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {wanted}; last seen: {status}"
        time.sleep(0.05)


def _lasting(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: obj["metadata"].get(key) or {} for key in ("name", "labels", "annotations", "finalizers")}
    metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if not k.startswith("deployment.")}
    metadata["owners"] = [
        {k: v for k, v in reference.items() if k != "uid"} for reference in obj["metadata"].get("ownerReferences") or ()
    ]
    metadata["ours"] = [
        re.sub(r'uid\\":\\"[0-9a-f-]+', "uid", json.dumps(entry["fieldsV1"], sort_keys=True))  # of the owner
        for entry in obj["metadata"].get("managedFields") or ()
        if entry["manager"] == names.MANAGER
    ]
    rest = {key: value for key, value in obj.items() if key not in {"metadata", "status"}}
    if "clusterIP" in rest.get("spec", {}):
        rest["spec"] = {k: v for k, v in rest["spec"].items() if k not in {"clusterIP", "clusterIPs"}}
    return {**rest, "metadata": metadata}


def _private(path: Path, document: Any) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
