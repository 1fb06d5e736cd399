"""APIGraph spec -> Graph, or the reasons why not.

Nothing is accepted silently: an unknown key, a wrong type or a value Kubernetes would not take is named. A problem in
one component refuses that component only; a problem in the frame of the graph refuses the graph.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.graph import Component, Graph, Refusal, RefusedComponent, Route
from turbo_operator.core.problems import Problems, shown, type_name
from turbo_operator.core.quantity import parse_quantity
from turbo_operator.core.rules import (
    DNS_NAME,
    IMAGE,
    LABEL_VALUE,
    OWN_ANNOTATIONS,
    PACKAGE_NAME,
    QUALIFIED_NAME,
    URL_PATH,
    annotation_complaint,
    config_key_complaint,
)

DEFAULT_PORT = 8080
DEFAULT_REPLICAS = 1
_LONGEST_IMAGE = 512
_LONGEST_PATH = 1024
_MOST_VARIABLES = 1000
_MOST_ANNOTATIONS = 200
_MOST_REPLICAS = 1000
_LAST_PORT = 65535
_LARGEST_CONFIG_BYTES = 1_000_000  # a ConfigMap may hold 1 MiB
_LARGEST_ANNOTATIONS_BYTES = 200_000  # all annotations of an object may hold 256 KiB

_PLAIN_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})


def normalize(spec: Any) -> Graph | Refusal:
    """Check an APIGraph spec and fill in its defaults.

    Components are sorted by package name and routes by path, so the order in the spec does not matter.
    """
    problems = Problems()
    if not isinstance(spec, Mapping):
        return Refusal((f"spec: must be an object, not {type_name(spec)}",))
    problems.keys(spec, frozenset({"environmentId", "buildId", "rootPackage", "components", "ingress"}))
    environment_id = problems.text(spec.get("environmentId"), "environmentId")
    build_id = problems.text(spec.get("buildId"), "buildId")
    root_package = problems.text(spec.get("rootPackage"), "rootPackage")
    if spec.get("components") is None:
        problems.add("components", "is required (it may be empty)")
    entries = problems.sequence(spec.get("components"), "components")
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("packageName"), str) or not entry["packageName"]:
            problems.add(f"components[{index}].packageName", "is required")
    if problems.found:
        return Refusal(tuple(problems.found))

    components, refused = _components(entries)
    known = {c.package_name for c in components} | {r.package_name for r in refused}
    host, routes, route_problems = _ingress(spec.get("ingress"), known)
    return Graph(
        environment_id=environment_id,
        name=names.graph_name(environment_id),
        build_id=build_id,
        root_package=root_package,
        components=components,
        refused=refused,
        host=host,
        routes=routes,
        problems=route_problems,
    )


def _components(entries: list[Any]) -> tuple[tuple[Component, ...], tuple[RefusedComponent, ...]]:
    package_names = Counter(entry["packageName"] for entry in entries)
    object_names = Counter(names.component_name(package_name) for package_name in package_names)
    components: list[Component] = []
    refused: dict[str, RefusedComponent] = {}
    for entry in entries:
        problems = Problems()
        component = _component(entry, problems)
        if package_names[component.package_name] > 1:
            problems.add("packageName", f"stands in the graph {package_names[component.package_name]} times")
        if object_names[component.name] > 1:
            problems.add("packageName", f"shares the object name {component.name!r} with another package")
        if problems.found:
            refused[component.package_name] = RefusedComponent(
                package_name=component.package_name,
                package_version=component.package_version,
                artifact_hash=component.artifact_hash,
                name=component.name,
                port=component.port,
                message="; ".join(problems.found),
            )
        else:
            components.append(component)
    return (
        tuple(sorted(components, key=lambda c: c.package_name)),
        tuple(refused[package_name] for package_name in sorted(refused)),
    )


def _component(entry: Mapping[str, Any], problems: Problems) -> Component:
    package_name = str(entry["packageName"])
    problems.keys(entry, frozenset({"packageName", "packageVersion", "kind", "artifactHash", "runtime"}))
    problems.text(package_name, "packageName", PACKAGE_NAME)
    runtime = problems.mapping(entry.get("runtime"), "runtime")
    known = frozenset({"image", "replicas", "port", "env", "resources", "annotations"})
    problems.keys(runtime, known, "runtime")
    requests, limits = _resources(runtime.get("resources"), problems)
    annotations = problems.texts(
        runtime.get("annotations"),
        "runtime.annotations",
        annotation_complaint,
        most=_MOST_ANNOTATIONS,
        largest_bytes=_LARGEST_ANNOTATIONS_BYTES,
    )
    probe_path, probe_port = _probe(annotations, problems)
    return Component(
        package_name=package_name,
        package_version=problems.text(entry.get("packageVersion"), "packageVersion"),
        artifact_hash=problems.text(entry.get("artifactHash"), "artifactHash"),
        name=names.component_name(package_name),
        kind=problems.text(entry.get("kind"), "kind", LABEL_VALUE, required=False),
        image=problems.text(runtime.get("image"), "runtime.image", IMAGE, required=False, longest=_LONGEST_IMAGE)
        or None,
        replicas=problems.integer(runtime.get("replicas"), "runtime.replicas", 0, _MOST_REPLICAS, DEFAULT_REPLICAS),
        port=problems.integer(runtime.get("port"), "runtime.port", 1, _LAST_PORT, DEFAULT_PORT),
        env=problems.texts(
            runtime.get("env"),
            "runtime.env",
            config_key_complaint,
            most=_MOST_VARIABLES,
            largest_bytes=_LARGEST_CONFIG_BYTES,
        ),
        requests=requests,
        limits=limits,
        annotations={k: v for k, v in annotations.items() if k not in OWN_ANNOTATIONS},
        probe_path=probe_path,
        probe_port=probe_port,
    )


def _resources(value: Any, problems: Problems) -> tuple[dict[str, str], dict[str, str]]:
    resources = problems.mapping(value, "runtime.resources")
    problems.keys(resources, frozenset({"requests", "limits"}), "runtime.resources")
    checked: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for part, amounts in checked.items():
        where = f"runtime.resources.{part}"
        for name, amount in sorted(problems.mapping(resources.get(part), where).items(), key=lambda item: str(item[0])):
            place = f"{where}[{name}]"
            if name not in _PLAIN_RESOURCES and not (QUALIFIED_NAME.fullmatch(str(name)) and "/" in str(name)):
                problems.add(place, f"unknown resource (known: {', '.join(sorted(_PLAIN_RESOURCES))}, domain/name)")
                continue
            if isinstance(amount, bool) or not isinstance(amount, str | int):
                told = f"the number {amount}; quote it" if isinstance(amount, float) else type_name(amount)
                problems.add(place, f"must be a quantity, not {told}")
                continue
            try:
                parse_quantity(str(amount))
            except ValueError as error:
                problems.add(place, str(error))
                continue
            amounts[str(name)] = str(amount)
    for name in sorted(checked["requests"].keys() & checked["limits"].keys()):
        request, limit = checked["requests"][name], checked["limits"][name]
        if parse_quantity(request) > parse_quantity(limit):
            problems.add(f"runtime.resources.requests[{name}]", f"{request} is more than the limit {limit}")
    return checked["requests"], checked["limits"]


def _probe(annotations: Mapping[str, str], problems: Problems) -> tuple[str | None, int | None]:
    path, port = annotations.get(names.ANNOTATION_PROBE_PATH), annotations.get(names.ANNOTATION_PROBE_PORT)
    if path is not None and not URL_PATH.allows(path):
        problems.add(f"runtime.annotations[{names.ANNOTATION_PROBE_PATH}]", f"{shown(path)} is not {URL_PATH.words}")
    if port is None:
        return path, None
    if path is None:
        problems.add(f"runtime.annotations[{names.ANNOTATION_PROBE_PORT}]", "has no effect without a probe path")
    if re.fullmatch(r"[1-9][0-9]{0,4}", port) is None or int(port) > _LAST_PORT:
        problems.add(f"runtime.annotations[{names.ANNOTATION_PROBE_PORT}]", f"{shown(port)} is not a port")
        return path, None
    return path, int(port)


def _ingress(value: Any, known: set[str]) -> tuple[str | None, tuple[Route, ...], tuple[str, ...]]:
    problems = Problems()
    ingress = problems.mapping(value, "ingress")
    problems.keys(ingress, frozenset({"host", "routes"}), "ingress")
    host = problems.text(ingress.get("host"), "ingress.host", DNS_NAME, required=False) or None
    routes: dict[str, Route] = {}
    ambiguous: set[str] = set()
    for index, entry in enumerate(problems.sequence(ingress.get("routes"), "ingress.routes")):
        own = Problems()
        route = _route(entry, f"ingress.routes[{index}]", known, own)
        problems.found += own.found
        if own.found:
            continue
        if routes.get(route.path, route) != route:
            ambiguous.add(route.path)
        routes[route.path] = route
    for path in sorted(ambiguous):
        problems.add("ingress.routes", f"path {path} leads to more than one target")
        del routes[path]
    return host, tuple(routes[path] for path in sorted(routes)), tuple(problems.found)


def _route(entry: Any, where: str, known: set[str], problems: Problems) -> Route:
    route = problems.mapping(entry, where)
    problems.keys(route, frozenset({"path", "targetComponent", "targetPort"}), where)
    path = problems.text(route.get("path"), f"{where}.path", URL_PATH, longest=_LONGEST_PATH)
    if "//" in path or any(segment in {".", ".."} for segment in path.split("/")):
        problems.add(f"{where}.path", f"{shown(path)} holds an empty or relative segment")
    target = problems.text(route.get("targetComponent"), f"{where}.targetComponent")
    if target and target not in known:
        problems.add(f"{where}.targetComponent", f"{shown(target)} is not a component of this graph")
    port = route.get("targetPort")
    return Route(
        path=path.rstrip("/") or "/",
        target=target,
        port=None if port is None else problems.integer(port, f"{where}.targetPort", 1, _LAST_PORT, DEFAULT_PORT),
    )
