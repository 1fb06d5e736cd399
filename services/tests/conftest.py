"""One platform a session: real processes, real SQLite, stand-ins for operator and collector."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings

from . import processes, stand_ins

# A loaded machine makes single examples slow.
settings.register_profile("services", deadline=None, max_examples=60)
settings.load_profile("services")


def eventually(look: Callable[[], Any], until: Callable[[Any], Any] = bool, timeout_s: float = 20.0) -> Any:
    """Look until what is seen is as wanted; names the last thing seen when it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look()
        if until(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {timeout_s} s; last seen: {seen!r}")
        time.sleep(0.05)


@dataclass
class Platform:
    """The services and stand-ins of a session."""

    registry: Any
    builder: Any
    envmanager: Any
    gateway: Any
    console: Any
    petstore: Any
    orchestrator: Any
    operator: Any
    spans: Any
    upstream: str
    collector: str

    def publish(self, name: str, version: str = "1.0.0", *, needs: dict[str, str] | None = None, **more: Any) -> Any:
        """Publish a package; the answer."""
        package = {"name": name, "version": version, "kind": "rest-service", "schema": f"schema of {name}", **more}
        if needs:
            package["dependencies"] = [{"packageName": n, "versionConstraint": c} for n, c in needs.items()]
        answer = self.registry.http.post("/v1/packages", json={"package": package})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def create(self, root: str, **more: Any) -> Any:
        """Create an environment; the answer's body."""
        body = {"name": unique("env"), "baseRootPackage": root, **more}
        answer = self.envmanager.http.post("/v1/environments", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def environment(self, environment_id: str) -> Any:
        """An environment."""
        return self.envmanager.http.get(f"/v1/environments/{environment_id}").json()

    def status(self, environment_id: str) -> Any:
        """An environment's status."""
        return self.envmanager.http.get(f"/v1/environments/{environment_id}/status").json()

    def graph(self, environment_id: str) -> Any:
        """An environment's graph; None when there is none."""
        graphs = self.builder.http.get("/v1/graphs").json()["graphs"]
        return next((graph for graph in graphs if graph["environmentId"] == environment_id), None)


def unique(prefix: str) -> str:
    """A name nobody else has."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """All services, talking to each other."""
    operator, spans = stand_ins.OperatorState(), stand_ins.Spans()
    with ExitStack() as stack:

        def service(name: str, **env: str) -> Any:
            directory = tmp_path_factory.mktemp(name)
            made = processes.Service(name, directory, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url, **env})
            stack.callback(made.close)
            return made.spawn()

        collector_url = stack.enter_context(stand_ins.serving(stand_ins.CollectorHandler, spans))
        operator_url = stack.enter_context(stand_ins.serving(stand_ins.OperatorHandler, operator))
        upstream_url = stack.enter_context(stand_ins.serving(stand_ins.UpstreamHandler))
        registry, petstore = service("registry"), service("petstore")
        gateway = service("gateway", CONFIG_URL=f"{operator_url}/v1/gateway-config")
        registry.wait(), petstore.wait()
        builder = service("builder", REGISTRY_URL=registry.url, REGISTRY_PATIENCE_S="60")
        orchestrator = service("orchestrator", UPSTREAM_URL=petstore.url)
        builder.wait()
        operator.builder_url = builder.url
        peers = {"REGISTRY_URL": registry.url, "BUILDER_URL": builder.url, "OPERATOR_URL": operator_url}
        envmanager = service("envmanager", RECHECK_S="0.5", **peers).wait()
        console = service(
            "console", VITE_ENVMANAGER_URL=envmanager.url, **{f"VITE_{name}": url for name, url in peers.items()}
        ).wait()
        yield Platform(
            registry=registry,
            builder=builder,
            envmanager=envmanager,
            gateway=gateway.wait(),
            console=console,
            petstore=petstore,
            orchestrator=orchestrator.wait(),
            operator=operator,
            spans=spans,
            upstream=upstream_url,
            collector=collector_url,
        )


@pytest.fixture(autouse=True)
def _operator_as_usual(request: pytest.FixtureRequest) -> Iterator[None]:
    """Faults of one test are not those of the next."""
    yield
    if "platform" in request.fixturenames:
        operator = request.getfixturevalue("platform").operator
        operator.forced.clear()
        operator.down = False


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start a service of the test's own: ``launch(name, **variables)``."""
    with ExitStack() as stack:

        def start(name: str, *, wait: bool = True, **env: str) -> Any:
            made = processes.Service(name, tmp_path_factory.mktemp(name), env)
            stack.callback(made.close)
            made.spawn()
            return made.wait() if wait else made

        yield start


@pytest.fixture
def root(platform: Platform) -> str:
    """A published package nobody else uses, on another one; an environment of it is removed after the test."""
    leaf, name = unique("leaf"), unique("root")
    platform.publish(leaf, routes=[{"path": f"/{leaf}"}], runtime={"env": {"GREETING": "hello"}})
    platform.publish(name, needs={leaf: "^1"})
    return name
