"""The checked form of an APIGraph spec: what `normalize` gives and everything else reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turbo_operator.core import names


@dataclass(frozen=True, slots=True)
class Component:
    """One package to run. `name` is the sanitised package name; `port` is where it listens."""

    package_name: str
    package_version: str
    artifact_hash: str
    name: str
    kind: str
    image: str | None
    replicas: int
    port: int
    env: Mapping[str, str]
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    annotations: Mapping[str, str]
    probe_path: str | None
    probe_port: int | None


@dataclass(frozen=True, slots=True)
class RefusedComponent:
    """A component whose spec cannot be used. What an earlier, valid spec of it made is left as it is."""

    package_name: str
    package_version: str
    artifact_hash: str
    name: str
    port: int
    message: str


@dataclass(frozen=True, slots=True)
class Route:
    """A path prefix and where it leads. `port` is the explicit target port, None for the component's own."""

    path: str
    target: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Graph:
    """A usable graph: the components that can run, those that cannot, and what else was refused.

    `problems` are sentences about refused parts that are not components (routes, the ingress host).
    """

    environment_id: str
    name: str
    build_id: str
    root_package: str
    components: tuple[Component, ...]
    refused: tuple[RefusedComponent, ...]
    host: str | None
    routes: tuple[Route, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A spec nothing can be made of, and why; one sentence a problem."""

    problems: tuple[str, ...]


def environment_of(obj: Mapping[str, Any]) -> str:
    """The environment an APIGraph speaks for: its spec's if it bears the name of that one, else that of its name.

    So no two APIGraphs ever speak for one environment, and each environment is reached under one id only.
    """
    name: str = obj["metadata"]["name"]
    environment_id = (obj.get("spec") or {}).get("environmentId")
    return environment_id if isinstance(environment_id, str) and names.graph_name(environment_id) == name else name
