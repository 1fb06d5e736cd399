"""From resolved packages to the graph of an environment; pure.

`compose`, `validate` and `artifact_hash` are the steps of a build that need nobody else.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from turbo_services.common.wire import (
    Artifact,
    Graph,
    GraphComponent,
    GraphRuntime,
    Ingress,
    IngressRoute,
    Package,
)

_COMPONENT: Final = re.compile(r"(@[a-z0-9-]+/)?[a-z0-9][a-z0-9._/-]*")
_RESERVED_PATHS: Final = ("/-", "/healthz", "/readyz", "/metrics", "/openapi.json")


class CompositionError(Exception):
    """The packages make no graph; the message names the package."""


def routes_of(package: Package) -> list[IngressRoute]:
    """The package's routes, each to the component that runs it."""
    return [
        IngressRoute(path=normal_path(route.path), target_component=package.name, target_port=package.runtime.port)
        for route in package.routes
    ]


def normal_path(path: str) -> str:
    """``/pets/`` and ``/pets`` are one route."""
    return path.rstrip("/") or "/"


def runtime_of(package: Package) -> GraphRuntime:
    """How the package runs: its runtime, and what it calls as UPSTREAM_URL and UPSTREAM_HEADERS.

    Variables that the package sets itself win.
    """
    env: dict[str, str] = {}
    if package.upstream_config:
        env["UPSTREAM_URL"] = package.upstream_config.url
        if package.upstream_config.headers:
            env["UPSTREAM_HEADERS"] = json.dumps(package.upstream_config.headers, sort_keys=True)
    runtime = package.runtime
    return GraphRuntime(
        image=runtime.image or UNSET,
        replicas=runtime.replicas,
        port=runtime.port,
        env=env | runtime.env,
        resources=runtime.resources,
        annotations=runtime.annotations or UNSET,
    )


def artifact_hash(package: Package) -> str:
    """SHA-256 over everything that can change what the component does, in canonical JSON.

    The version is not part of it: two versions with the same content behave the same.
    """
    content: dict[str, Any] = {
        "name": package.name,
        "kind": package.kind,
        "schema": package.schema,
        "runtime": msgspec.to_builtins(runtime_of(package)),
        "routes": sorted(route.path for route in routes_of(package)),
        "metadata": package.metadata,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def artifact_of(package: Package) -> Artifact:
    """The package, bundled."""
    return Artifact(
        package_name=package.name,
        package_version=package.version,
        kind=package.kind,
        artifact_hash=artifact_hash(package),
        routes=sorted(routes_of(package), key=lambda route: route.path),
    )


def validate(packages: Iterable[Package]) -> None:
    """Whether the packages can run together.

    Raises:
        CompositionError: a schema is missing, a name is unfit, or a route is ambiguous or reserved.
    """
    owners: dict[str, str] = {}
    for package in packages:
        if not package.schema.strip():
            raise CompositionError(f"package {package.name}@{package.version} has no schema")
        if not _COMPONENT.fullmatch(package.name):
            raise CompositionError(f"package {package.name!r} has a name no component can have")
        for route in routes_of(package):
            if route.path in owners:
                raise CompositionError(
                    f"package {package.name}: route {route.path} is already taken by {owners[route.path]}"
                )
            if any(route.path == path or route.path.startswith(f"{path}/") for path in _RESERVED_PATHS):
                raise CompositionError(f"package {package.name}: route {route.path} is the gateway's own")
            owners[route.path] = package.name


def compose(
    packages: Iterable[Package], *, environment_id: str, build_id: str, root: str, host: str | None = None
) -> Graph:
    """The graph: a component a package, sorted by name, and the routes of all, sorted by path."""
    ordered = sorted(packages, key=lambda package: package.name)
    components = [
        GraphComponent(
            package_name=package.name,
            package_version=package.version,
            kind=package.kind,
            artifact_hash=artifact_hash(package),
            runtime=runtime_of(package),
        )
        for package in ordered
    ]
    routes = sorted((route for package in ordered for route in routes_of(package)), key=lambda route: route.path)
    ingress = Ingress(host=host or f"{environment_id}.turbo-engine.local", routes=routes) if routes else UNSET
    return Graph(
        environment_id=environment_id,
        build_id=build_id,
        root_package=root,
        components=components,
        ingress=ingress,
    )
