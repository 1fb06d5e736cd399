"""The CRD and the operator's own check of a spec agree on how long and how many."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from specs import component, spec

from turbo_operator.core.graph import Graph
from turbo_operator.core.normalize import normalize

_FILE = Path(__file__).parents[2] / "infra" / "k8s" / "base" / "apigraph-crd.yaml"
_BOUNDS = ("maxLength", "maxItems", "maxProperties")


def _bounds(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    """Every limit of length or number below a schema, by path."""
    for bound in _BOUNDS:
        if bound in schema:
            yield path, schema[bound]
    for name, inner in schema.get("properties", {}).items():
        yield from _bounds(inner, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _bounds(schema["items"], f"{path}[]")


_SPEC = yaml.safe_load(_FILE.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
_LIMITS = dict(_bounds(_SPEC))


def _package(size: int) -> dict[str, Any]:
    """A component of a package whose name has a length."""
    return {**component(), "packageName": f"@{'a' * (size - 3)}/a"}


def _routed(size: int, *, routes: int = 1) -> dict[str, Any]:
    """A graph whose routes lead to a package whose name has a length."""
    target = _package(size)
    entries = [{"path": f"/{n}", "targetComponent": target["packageName"]} for n in range(routes)]
    return spec(target, ingress={"routes": entries})


_OF_SIZE: dict[str, Callable[[int], dict[str, Any]]] = {
    "environmentId": lambda size: spec(environment="x" * size),
    "buildId": lambda size: spec(build="x" * size),
    "rootPackage": lambda size: {**spec(), "rootPackage": "x" * size},
    "components": lambda size: spec(*(component(f"c{n}") for n in range(size))),
    "components[].packageName": lambda size: spec(_package(size)),
    "components[].packageVersion": lambda size: spec({**component(), "packageVersion": "1" * size}),
    "components[].kind": lambda size: spec({**component(), "kind": "x" * size}),
    "components[].artifactHash": lambda size: spec({**component(), "artifactHash": "1" * size}),
    "components[].runtime.image": lambda size: spec(component(image="x" * size)),
    "components[].runtime.env": lambda size: spec(component(env={f"A{n}": "" for n in range(size)})),
    "components[].runtime.annotations": lambda size: spec(component(annotations={f"a{n}": "" for n in range(size)})),
    "ingress.host": lambda size: spec(ingress={"host": ("x." * 127)[: size - 1] + "x"}),
    "ingress.routes": lambda size: _routed(9, routes=size),
    "ingress.routes[].path": lambda size: spec(
        component(), ingress={"routes": [{"path": "/" + "x" * (size - 1), "targetComponent": "users"}]}
    ),
    "ingress.routes[].targetComponent": _routed,
}
"""Specs in which one part has a size, by the part's path in the CRD."""


def _taken(value: dict[str, Any]) -> bool:
    graph = normalize(value)
    return isinstance(graph, Graph) and not graph.refused and not graph.problems


def test_r10_every_limit_of_the_crd_is_known_here() -> None:
    """Another limit in the CRD needs a line in this file."""
    assert set(_LIMITS) == set(_OF_SIZE)


@pytest.mark.parametrize("path", _OF_SIZE)
def test_r10_what_the_crd_would_not_take_is_refused_in_every_mode(path: str) -> None:
    """Dev mode has no API server to refuse a spec: the operator's own check draws the line at the same place."""
    limit = _LIMITS[path]
    assert _taken(_OF_SIZE[path](limit))
    assert not _taken(_OF_SIZE[path](limit + 1))
