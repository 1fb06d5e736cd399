"""The fields of the CRD and those that the operator knows are the same, and each of them does something."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.core import names
from turbo_operator.core.gateway_config import gateway_config
from turbo_operator.core.graph import Graph
from turbo_operator.core.normalize import normalize

_CRD = Path(__file__).parents[2] / "infra" / "k8s" / "base" / "apigraph-crd.yaml"


def _schema() -> dict[str, Any]:
    (version,) = yaml.safe_load(_CRD.read_text())["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _fields(schema: dict[str, Any], path: str = "") -> list[str]:
    """Paths of the fields that hold a value; `[]` stands for any item of a list, `.*` for any key of a map."""
    found = []
    for name, inner in schema.get("properties", {}).items():
        found += _fields(inner, f"{path}.{name}" if path else name)
    if "items" in schema:
        found += _fields(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        found.append(f"{path}.*")
    return found or [path]


_FIELDS = _fields(_schema())
_COMPONENT, _RUNTIME, _ROUTE = "components[].", "components[].runtime.", "ingress.routes[]."
_CHANGED: dict[str, dict[str, Any]] = {
    "environmentId": {"": "env-2"},
    "buildId": {"": "build-2"},
    "rootPackage": {"": "products"},
    _COMPONENT + "packageName": {"": "orders"},
    _COMPONENT + "packageVersion": {"": "9"},
    _COMPONENT + "kind": {"": "web-ui"},
    _COMPONENT + "artifactHash": {"": "sha256:other"},
    _RUNTIME + "image": {"": "other:1"},
    _RUNTIME + "replicas": {"": 7},
    _RUNTIME + "port": {"": 7},
    _RUNTIME + "env.*": {"K": "v"},
    _RUNTIME + "resources.requests.*": {"cpu": "7m", "memory": 1, "example.com/gpu": "1"},
    _RUNTIME + "resources.limits.*": {"cpu": "7m", "memory": 1},
    _RUNTIME + "annotations.*": {"note": "x", names.ANNOTATION_PROBE_PATH: "/x"},
    "ingress.host": {"": "other.example.com"},
    _ROUTE + "path": {"": "/other"},
    _ROUTE + "targetComponent": {"": "products"},
    _ROUTE + "targetPort": {"": 7},
}
"""Another value of each field; of a map, by key."""


def _set(value: Any, path: str, new: Any) -> None:
    """Change what stands at a path; of a list the first item."""
    *parents, last = path.removesuffix(".*").split(".")
    for part in parents:
        value = value.setdefault(part.removesuffix("[]"), {})
        value = value[0] if part.endswith("[]") else value
    value[last] = new


def _base() -> dict[str, Any]:
    routes = [{"path": "/users", "targetComponent": "users"}, {"path": "/all", "targetComponent": "products"}]
    return spec(component("users"), component("products"), ingress={"host": "a.example.com", "routes": routes})


def _effect(value: dict[str, Any]) -> Any:
    """What can be seen of a graph: its objects, the gateway's routes and the status as the API tells it."""
    applier = RecordingApplier()
    harness = Harness(applier, start=False)
    harness.statuses._clock = lambda: 0.0
    harness.reconciler._writer.start()
    name = harness.put(value)
    harness.reconciler.reconcile(name)
    snapshot = harness.statuses.compute(name)
    graph = normalize(value)
    assert snapshot is not None
    assert isinstance(graph, Graph)
    harness.stop()
    made = {action.key: action.body for action in applier.writes}
    for obj in made.values():
        assert obj is not None
        obj["metadata"].pop("ownerReferences")
    return made, gateway_config([("", graph)]), snapshot.report


def test_r10_each_field_of_the_crd_has_another_value_here() -> None:
    """A field that is added to the CRD has to be added to the table of this file, and so to the tests below."""
    assert sorted(_CHANGED) == sorted(_FIELDS)


_CASES = [(path, key, value) for path, values in _CHANGED.items() for key, value in values.items()]


@pytest.mark.parametrize(("path", "key", "value"), _CASES, ids=[f"{path}{key}" for path, key, _ in _CASES])
def test_r10_every_field_has_an_effect(path: str, key: str, value: Any) -> None:
    """Changing any field of the spec changes an object, the gateway's routes or the status, and nothing is refused."""
    changed = copy.deepcopy(_base())
    _set(changed, path, {key: value} if key else value)
    if path.endswith("packageName"):
        changed["ingress"]["routes"][0]["targetComponent"] = value
    graph = normalize(changed)
    assert isinstance(graph, Graph)
    assert (graph.problems, graph.refused) == ((), ())
    before, after = _effect(_base()), _effect(changed)
    assert before == _effect(_base())
    assert before != after


def _objects(schema: dict[str, Any], path: str = "") -> list[str]:
    """Paths of the objects with fields of fixed names, the spec's own first."""
    found = [path] if "properties" in schema else []
    for name, inner in schema.get("properties", {}).items():
        found += _objects(inner, f"{path}{name}.")
    return found + (_objects(schema["items"], f"{path.removesuffix('.')}[].") if "items" in schema else [])


@pytest.mark.parametrize("path", _objects(_schema()), ids=lambda path: path or "spec")
def test_r10_a_field_that_the_crd_does_not_have_is_refused(path: str) -> None:
    """Beside the fields of the CRD no other is known: it is named, wherever it stands."""
    changed = copy.deepcopy(_base())
    _set(changed, f"{path}surprise", "x")
    graph = normalize(changed)
    problems = (
        [*graph.problems, *(each.message for each in graph.refused)] if isinstance(graph, Graph) else graph.problems
    )
    assert any("surprise: unknown field" in problem for problem in problems), problems
