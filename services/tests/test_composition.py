"""Composing a graph; what an artifact hash covers."""

from typing import Any

import msgspec
import pytest

from turbo_services.builder.composition import CompositionError, artifact_hash, compose, validate
from turbo_services.common.wire import Package

BASE: dict[str, Any] = {
    "id": "pkg-1",
    "name": "users",
    "namespace": "default",
    "kind": "rest-service",
    "version": "1.0.0",
    "schema": "s",
    "dependencies": [],
    "runtime": {"image": "i:1", "replicas": 1, "env": {"A": "1"}, "resources": {"limits": {"cpu": "1"}}, "port": 80},
    "routes": [{"path": "/users"}],
    "upstreamConfig": {"url": "http://up", "headers": {"h": "1"}},
    "metadata": {"owner": "me"},
    "createdAt": "t",
    "updatedAt": "t",
    "yanked": False,
}


def package(**changes: Any) -> Package:
    """`BASE` with changes."""
    runtime = BASE["runtime"] | changes.pop("runtime", {})
    return msgspec.convert(BASE | {"runtime": runtime} | changes, Package)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "t"},
        {"kind": "workflow"},
        {"routes": [{"path": "/other"}]},
        {"routes": []},
        {"metadata": {}},
        {"upstreamConfig": {"url": "http://other", "headers": {"h": "1"}}},
        {"upstreamConfig": {"url": "http://up", "headers": {}}},
        {"runtime": {"image": "i:2"}},
        {"runtime": {"replicas": 2}},
        {"runtime": {"port": 81}},
        {"runtime": {"annotations": {"turboengine.io/probe-path": "/healthz"}}},
        {"runtime": {"env": {"A": "2"}}},
        {"runtime": {"env": {}}},
        {"runtime": {"resources": {"limits": {"cpu": "2"}}}},
        {"runtime": {"resources": {"requests": {"cpu": "1"}}}},
    ],
)
def test_artifact_hash_covers_what_changes_behaviour(change: dict[str, Any]) -> None:
    """Each thing that can change what a component does changes its hash."""
    assert artifact_hash(package(**change)) != artifact_hash(package())


@pytest.mark.parametrize("change", [{"id": "pkg-2"}, {"version": "2.0.0"}, {"createdAt": "u"}, {"yanked": True}])
def test_artifact_hash_leaves_out_what_does_not(change: dict[str, Any]) -> None:
    """A publication that behaves the same has the same hash."""
    assert artifact_hash(package(**change)) == artifact_hash(package())


def test_graph_does_not_depend_on_the_order_of_packages() -> None:
    """The same packages give the same bytes."""
    packages = [package(name=name, routes=[{"path": f"/{name}"}]) for name in ("b", "a", "c")]
    graphs = [compose(p, environment_id="e", build_id="b", root="a") for p in (packages, packages[::-1])]
    first, second = map(msgspec.json.encode, graphs)
    assert first == second
    assert [c.package_name for c in graphs[0].components] == ["a", "b", "c"]


def test_upstream_reaches_the_workload_unless_it_sets_its_own() -> None:
    """UPSTREAM_URL comes from upstreamConfig; a package's own variable wins."""

    def env(**runtime: Any) -> dict[str, str]:
        graph = compose([package(runtime=runtime)], environment_id="e", build_id="b", root="users")
        return graph.components[0].runtime.env

    assert env() == {"A": "1", "UPSTREAM_URL": "http://up", "UPSTREAM_HEADERS": '{"h": "1"}'}
    assert env(env={"UPSTREAM_URL": "http://own"})["UPSTREAM_URL"] == "http://own"


def test_package_without_image_or_routes_leaves_them_out() -> None:
    """No image and no ingress in the graph: the operator's stub stands in."""
    plain = msgspec.structs.replace(package(routes=[]), runtime=msgspec.convert({}, type(package().runtime)))
    graph = msgspec.to_builtins(compose([plain], environment_id="e", build_id="b", root="users"))
    assert "ingress" not in graph
    assert "image" not in graph["components"][0]["runtime"]


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ([package(schema=" ")], "package users@1.0.0 has no schema"),
        ([package(), package(name="other")], "package other: route /users is already taken by users"),
        ([package(), package(name="other", routes=[{"path": "/users/"}])], "package other: route /users is already"),
        ([package(routes=[{"path": "/-/routes"}])], "package users: route /-/routes is the gateway's own"),
    ],
)
def test_what_does_not_fit_together_is_named(packages: list[Package], message: str) -> None:
    """Validation names the package and what is wrong with it."""
    with pytest.raises(CompositionError, match=message):
        validate(packages)
