"""Specs for tests: by hand, and drawn by hypothesis."""

from typing import Any

from hypothesis import strategies as st

from turbo_operator.applier import NoopApplier
from turbo_operator.core.desired import Options, Owner, desired
from turbo_operator.core.graph import Graph
from turbo_operator.core.normalize import normalize
from turbo_operator.core.plan import Action, plan

OWNER = Owner("env-1", "uid-1")
OPTIONS = Options()


def component(package: str = "users", version: str = "1.0.0", **runtime: Any) -> dict[str, Any]:
    """A component with a given runtime."""
    return {
        "packageName": package,
        "packageVersion": version,
        "kind": "rest-service",
        "artifactHash": f"sha256:{package}-{version}",
        "runtime": runtime,
    }


def idle(package: str = "users", version: str = "1.0.0", **runtime: Any) -> dict[str, Any]:
    """A component without pods, for where there is no node to run them."""
    return component(package, version, **{"replicas": 0, **runtime})


def spec(
    *components: dict[str, Any], environment: str = "env-1", build: str = "build-1", **more: Any
) -> dict[str, Any]:
    """An APIGraph spec."""
    return {
        "environmentId": environment,
        "buildId": build,
        "rootPackage": "users",
        "components": list(components),
        **more,
    }


def moving(size: int, turn: int) -> dict[str, Any]:
    """Build number `turn` of a graph: of any two in a row each has two components of its own, the others differ.

    A step is two Creates and two Deletes of each kind, and an Update of everything else; it gives and takes an
    environment variable, an annotation and a port.
    """
    runtime = {
        "env": {"TURN": str(turn), f"ONLY_{turn % 3}": "x"},
        "annotations": {f"example.com/turn-{turn % 2}": "x"},
        "port": 8080 + turn % 2,
    }
    components = (idle(f"c{n}", f"{turn + 1}.0.0", **runtime) for n in range(2 * turn, 2 * turn + size))
    return spec(*components, build=f"build-{turn}")


def graph_of(value: Any) -> Graph:
    """The graph of a spec that has one."""
    graph = normalize(value)
    assert isinstance(graph, Graph), graph
    return graph


def converge(applier: NoopApplier, value: Any, owner: Owner = OWNER, options: Options = OPTIONS) -> tuple[Action, ...]:
    """One reconcile against memory; gives the plan it carried out."""
    graph = graph_of(value)
    actions = plan(graph, desired(graph, owner, options), applier.objects, owner)
    for action in actions:
        if action.writes:
            result = applier.write(action)
            assert result.outcome == "ok", (action, result)
    return actions


def contents(applier: NoopApplier) -> dict[Any, Any]:
    """What is in memory, without what differs between two histories: uids, versions, times."""
    volatile = {"uid", "resourceVersion", "generation", "creationTimestamp"}
    found = {}
    for key, obj in applier.objects.items():
        metadata = {k: v for k, v in obj["metadata"].items() if k not in volatile}
        found[key] = {k: v for k, v in {**obj, "metadata": metadata}.items() if k != "status"}
    return found


_NAMES = st.sampled_from(["users", "products", "@acme/users", "a.b", "orders-service", "x" * 80, "web/ui"])
_WORDS = st.text(alphabet="abcXYZ 0-9é\n", max_size=12)
_ENV = st.dictionaries(st.sampled_from(["A", "B_C", "d.e", "UPSTREAM_URL"]), _WORDS, max_size=3)
_QUANTITIES = st.sampled_from(["100m", "0.5", "1", "64Mi", "1Gi", "1024Mi"])
_AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "memory"]), _QUANTITIES, max_size=2)
_ANNOTATIONS = st.dictionaries(
    st.sampled_from(["example.com/team", "note", "turboengine.io/probe-path"]), st.just("/healthz"), max_size=3
)
_RUNTIMES = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["turbo-engine/petstore:e2e", "registry.example.com/a/b@sha256:00"]),
        "replicas": st.integers(0, 5),
        "port": st.integers(1, 65535),
        "env": _ENV,
        "resources": st.one_of(
            st.fixed_dictionaries({}, optional={"requests": _AMOUNTS}),
            st.fixed_dictionaries({}, optional={"limits": _AMOUNTS}),
        ),
        "annotations": _ANNOTATIONS,
    },
)
COMPONENTS = st.builds(
    lambda name, version, kind, artifact, runtime: {
        "packageName": name,
        "packageVersion": version,
        "artifactHash": artifact,
        **({"kind": kind} if kind else {}),
        "runtime": runtime,
    },
    _NAMES,
    st.sampled_from(["1.0.0", "1.1.0", "2.0.0-rc.1+b5"]),
    st.sampled_from(["", "rest-service", "graphql-service"]),
    st.sampled_from(["sha256:aa", "sha256:bb"]),
    _RUNTIMES,
)


@st.composite
def valid_specs(draw: st.DrawFn, environment: str = "env-1") -> dict[str, Any]:
    """A spec whose every part can be used."""
    components: Any = draw(st.lists(COMPONENTS, max_size=4, unique_by=lambda c: c["packageName"]))
    value = spec(*components, environment=environment, build=draw(st.sampled_from(["b1", "b2"])))
    if components and draw(st.booleans()):
        targets = st.sampled_from([c["packageName"] for c in components])
        paths = draw(st.lists(st.sampled_from(["/", "/users", "/users/v2", "/p/"]), unique=True, max_size=3))
        routes = []
        for path in paths:
            route = {"path": path, "targetComponent": draw(targets)}
            if draw(st.booleans()):
                route["targetPort"] = draw(st.integers(1, 65535))
            routes.append(route)
        value["ingress"] = {"host": "env-1.example.com", "routes": routes}
    return value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
