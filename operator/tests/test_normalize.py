"""What a spec may say, and the sentence that refuses the rest."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import COMPONENTS, JSON, OPTIONS, OWNER, component, converge, graph_of, spec

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import desired
from turbo_operator.core.graph import Component, Graph, Refusal, RefusedComponent, Route
from turbo_operator.core.normalize import normalize


@given(JSON)
def test_r10_anything_is_answered_with_a_graph_or_reasons(value: Any) -> None:
    """No JSON value crashes the check of a spec; what is refused is refused with a sentence."""
    result = normalize(value)
    assert isinstance(result, Graph) or result.problems


@given(st.lists(COMPONENTS, max_size=3), st.lists(JSON, max_size=3), st.data())
def test_r12_arbitrary_components_never_crash(good: list[Any], odd: list[Any], data: st.DataObject) -> None:
    """Components of any JSON shape leave every good one of another name usable, or refuse the frame with a reason."""
    entries = [
        {"packageName": f"odd-{i}", **(entry if isinstance(entry, dict) else {"runtime": entry})}
        for i, entry in enumerate(odd)
    ]
    unique = {c["packageName"]: c for c in good}
    graph = graph_of(spec(*data.draw(st.permutations([*unique.values(), *entries]))))
    assert set(unique) <= {c.package_name for c in graph.components}
    desired(graph, OWNER, OPTIONS)


_PATH, _PORT = names.ANNOTATION_PROBE_PATH, names.ANNOTATION_PROBE_PORT
_URL_PATH = "a URL path: '/', then letters, digits, '/' and any of . _ ~ ! $ & ' ( ) * + , ; = : @ % -"
_BAD: dict[str, tuple[dict[str, Any], str]] = {
    "package name": (
        component("BAD NAME"),
        (
            "packageName: 'BAD NAME' is not a package name: lower-case letters, digits, '.', '_', '/' and '-', "
            "at most 128, the first a letter or digit; a scope such as @acme/ may stand before it"
        ),
    ),
    "version missing": ({**component(), "packageVersion": ""}, "packageVersion: is required"),
    "version no text": ({**component(), "packageVersion": 1.0}, "packageVersion: must be a string, not number"),
    "hash missing": ({**component(), "artifactHash": None}, "artifactHash: is required"),
    "hash not UTF-8": (
        {**component(), "artifactHash": "\ud800"},
        "artifactHash: holds characters that UTF-8 cannot carry",
    ),
    "kind no label": (
        {**component(), "kind": "no spaces please"},
        (
            "kind: 'no spaces please' is not a label value: letters, digits, '.', '_' and '-', "
            "at most 63, the first and the last a letter or digit"
        ),
    ),
    "unknown field of a component": (
        {**component(), "colour": "red"},
        "colour: unknown field (known: artifactHash, kind, packageName, packageVersion, runtime)",
    ),
    "runtime a number": ({**component(), "runtime": 3}, "runtime: must be an object, not number"),
    "runtime a list": ({**component(), "runtime": []}, "runtime: must be an object, not list"),
    "unknown fields of a runtime": (
        component(flavour=None, colour="red"),
        (
            "runtime.colour: unknown field (known: annotations, env, image, port, replicas, resources); "
            "runtime.flavour: unknown field (known: annotations, env, image, port, replicas, resources)"
        ),
    ),
    "image": (
        component(image="a b"),
        (
            "runtime.image: 'a b' is not an image reference: letters, digits, '.', '_', ':', '/', '@' and '-', "
            "at most 512, the first a letter or digit"
        ),
    ),
    "replicas too few": (component(replicas=-1), "runtime.replicas: must be 0 to 1000, is -1"),
    "replicas too many": (component(replicas=1001), "runtime.replicas: must be 0 to 1000, is 1001"),
    "replicas boolean": (component(replicas=True), "runtime.replicas: must be a whole number, not boolean"),
    "replicas broken": (component(replicas=1.5), "runtime.replicas: must be a whole number, not number"),
    "replicas text": (component(replicas="2"), "runtime.replicas: must be a whole number, not string"),
    "port too low": (component(port=0), "runtime.port: must be 1 to 65535, is 0"),
    "port too high": (component(port=65536), "runtime.port: must be 1 to 65535, is 65536"),
    "environment a text": (component(env="A=1"), "runtime.env: must be an object, not string"),
    "environment key": (
        component(env={"A B": "x"}),
        (
            "runtime.env[A B]: is not a valid environment variable name for a ConfigMap "
            "(letters, digits, '-', '_' and '.')"
        ),
    ),
    "environment key that is a directory": (
        component(env={".": "x", "..": "x", "..a": "x"}),
        "; ".join(
            f"runtime.env[{key}]: is not a valid environment variable name for a ConfigMap "
            "(letters, digits, '-', '_' and '.')"
            for key in (".", "..", "..a")
        ),
    ),
    "environment key no text": (component(env={1: "x"}), "runtime.env[1]: keys must be strings"),
    "environment number": (component(env={"A": 1}), "runtime.env[A]: must be a string, not number; quote it"),
    "environment null": (component(env={"A": None}), "runtime.env[A]: must be a string, not null; quote it"),
    "environment object": (component(env={"A": {}}), "runtime.env[A]: must be a string, not object; quote it"),
    "environment characters": (
        component(env={"A": "a\0b", "B": "\ud800"}),
        (
            "runtime.env[A]: holds characters that an environment or a file cannot carry; "
            "runtime.env[B]: holds characters that an environment or a file cannot carry"
        ),
    ),
    "environment too large": (
        component(env={"A": "é" * 499_999, "BB": "x"}),
        "runtime.env: is 1000002 bytes, more than the 1000000 that fit",
    ),
    "resources a text": (component(resources="1"), "runtime.resources: must be an object, not string"),
    "resources unknown part": (
        component(resources={"request": {}}),
        "runtime.resources.request: unknown field (known: limits, requests)",
    ),
    "amounts a list": (
        component(resources={"limits": ["1"]}),
        "runtime.resources.limits: must be an object, not list",
    ),
    "amounts of all kinds": (
        component(resources={"requests": {"cpu": "lots", "gpu": "1", "memory": True, "a.b/c": [], "/x": 1}}),
        (
            "runtime.resources.requests[/x]: unknown resource (known: cpu, ephemeral-storage, memory, domain/name); "
            "runtime.resources.requests[a.b/c]: must be a quantity, not list; "
            "runtime.resources.requests[cpu]: 'lots' is not a quantity of 0 or more, such as 100m, 0.5 or 64Mi; "
            "runtime.resources.requests[gpu]: unknown resource (known: cpu, ephemeral-storage, memory, domain/name); "
            "runtime.resources.requests[memory]: must be a quantity, not boolean"
        ),
    ),
    "an amount that is a broken number": (
        component(resources={"limits": {"cpu": 0.5}}),
        "runtime.resources.limits[cpu]: must be a quantity, not the number 0.5; quote it",
    ),
    "digits that are not ASCII": (
        component(resources={"limits": {"cpu": "\u0661m"}}),
        "runtime.resources.limits[cpu]: '\u0661m' is not a quantity of 0 or more, such as 100m, 0.5 or 64Mi",
    ),
    "version too long": ({**component(), "packageVersion": "1" * 254}, "packageVersion: is longer than 253 characters"),
    "hash too long": ({**component(), "artifactHash": "1" * 254}, "artifactHash: is longer than 253 characters"),
    "package name too long": (
        {**component(), "packageName": f"@{'a' * 251}/a"},
        "packageName: is longer than 253 characters",
    ),
    "too many variables": (
        component(env={f"A{n}": "" for n in range(1001)}),
        "runtime.env: has 1001 entries, more than 1000",
    ),
    "too many annotations": (
        component(annotations={f"a{n}": "" for n in range(201)}),
        "runtime.annotations: has 201 entries, more than 200",
    ),
    "amounts of something without a name": (
        component(resources={"limits": {1: "1", "cpu": "1"}}),
        "runtime.resources.limits[1]: unknown resource (known: cpu, ephemeral-storage, memory, domain/name)",
    ),
    "requests above limits": (
        component(resources={"requests": {"cpu": "2", "memory": 2}, "limits": {"cpu": "1500m", "memory": 1}}),
        (
            "runtime.resources.requests[cpu]: 2 is more than the limit 1500m; "
            "runtime.resources.requests[memory]: 2 is more than the limit 1"
        ),
    ),
    "annotation key": (
        component(annotations={"a b": "y"}),
        "runtime.annotations[a b]: is not a valid annotation key",
    ),
    "annotation of ours": (
        component(annotations={"turboengine.io/x": "y", "sub.turboengine.io/x": "y"}),
        (
            f"runtime.annotations[turboengine.io/x]: is reserved (known: {_PATH}, {_PORT}); "
            f"runtime.annotations[sub.turboengine.io/x]: is reserved (known: {_PATH}, {_PORT})"
        ),
    ),
    "annotation of Kubernetes": (
        component(
            annotations={f"{prefix}/x": "y" for prefix in ("kubernetes.io", "k8s.io", "a.kubernetes.io", "a.k8s.io")}
        ),
        "; ".join(
            f"runtime.annotations[{prefix}/x]: is reserved for Kubernetes"
            for prefix in ("kubernetes.io", "k8s.io", "a.kubernetes.io", "a.k8s.io")
        ),
    ),
    "annotations too large": (
        component(annotations={"a": "x" * 200_000}),
        "runtime.annotations: is 200001 bytes, more than the 200000 that fit",
    ),
    "probe path": (
        component(annotations={_PATH: "no-slash"}),
        f"runtime.annotations[{_PATH}]: 'no-slash' is not {_URL_PATH}",
    ),
    "probe path that fills a line": (
        component(annotations={_PATH: "x" * 80}),
        f"runtime.annotations[{_PATH}]: '{'x' * 80}' is not {_URL_PATH}",
    ),
    "probe path longer than a line": (
        component(annotations={_PATH: "x" * 81}),
        f"runtime.annotations[{_PATH}]: '{'x' * 77}...' is not {_URL_PATH}",
    ),
    "probe port alone": (
        component(annotations={_PORT: "80"}),
        f"runtime.annotations[{_PORT}]: has no effect without a probe path",
    ),
    "probe port no number": (
        component(annotations={_PATH: "/", _PORT: "http"}),
        f"runtime.annotations[{_PORT}]: 'http' is not a port",
    ),
    "probe port too high": (
        component(annotations={_PATH: "/", _PORT: "65536"}),
        f"runtime.annotations[{_PORT}]: '65536' is not a port",
    ),
    "probe port too low": (
        component(annotations={_PATH: "/", _PORT: "0"}),
        f"runtime.annotations[{_PORT}]: '0' is not a port",
    ),
}


@pytest.mark.parametrize(("bad", "reason"), _BAD.values(), ids=_BAD.keys())
def test_r12_an_invalid_component_is_refused_and_the_others_proceed(bad: dict[str, Any], reason: str) -> None:
    """One unusable component is named with all its reasons; the rest is applied, and what it had is left alone."""
    applier = NoopApplier()
    package = bad["packageName"]
    converge(applier, spec(component(package.lower().replace(" ", "-")), component("other")))
    before = {key: obj for key, obj in applier.objects.items() if "other" not in key[1]}
    actions = converge(applier, spec(bad, component("other", version="2.0.0")))
    assert [(a.name, a.reason) for a in actions if a.verb == "Refuse"] == [("env-1", f"{package}: {reason}")]
    annotations = applier.objects["Deployment", "deploy-other"]["metadata"]["annotations"]
    assert annotations[names.ANNOTATION_PACKAGE_VERSION] == "2.0.0"
    if package == "users":
        assert {key: applier.objects.get(key) for key in before} == before


def test_r12_a_refused_component_is_known_by_what_could_be_read_of_it() -> None:
    """Name, version, hash and port of a refused component are kept, each with its default if it is the one refused."""
    bad = component("@acme/a", port=81, replicas=-1)
    worse = {**component("b", port=0), "artifactHash": 1}
    broken = {**component("c"), "packageVersion": "\ud800"}  # would break whatever it is written to
    graph = graph_of(spec(worse, broken, bad))
    reason = "runtime.replicas: must be 0 to 1000, is -1"
    reasons = "artifactHash: must be a string, not number; runtime.port: must be 1 to 65535, is 0"
    assert graph.refused == (
        RefusedComponent("@acme/a", "1.0.0", "sha256:@acme/a-1.0.0", names.component_name("@acme/a"), 81, reason),
        RefusedComponent("b", "1.0.0", "", "b", 8080, reasons),
        RefusedComponent(
            "c", "", "sha256:c-1.0.0", "c", 8080, "packageVersion: holds characters that UTF-8 cannot carry"
        ),
    )


_EDGES: dict[str, dict[str, Any]] = {
    "replicas": {"replicas": 1000},
    "no replicas": {"replicas": 0},
    "first port": {"port": 1},
    "last port": {"port": 65535},
    "environment": {"env": {"A": "x" * 999_999}},
    "dots in an environment key": {"env": {".a..b": "x"}},
    "annotations": {"annotations": {"a": "x" * 199_999}},
    "annotation keys that only end like reserved ones": {"annotations": {"myturboengine.io/x": "", "myk8s.io/x": ""}},
    "probe on the last port": {"annotations": {_PATH: "/", _PORT: "65535"}},
    "requests equal to limits": {"resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": "1"}}},
    "resources that are numbers": {"resources": {"limits": {"cpu": 1, "memory": 1024}}},
    "variables": {"env": {f"A{n}": "" for n in range(1000)}},
    "many annotations": {"annotations": {f"a{n}": "" for n in range(200)}},
    "a device": {"resources": {"limits": {"example.com/gpu": "1"}}},
    "nothing": {"image": None, "replicas": None, "port": None, "env": None, "resources": None, "annotations": None},
    "empty": {"image": "", "env": {}, "resources": {"requests": None, "limits": {}}, "annotations": {}},
}


@pytest.mark.parametrize("runtime", _EDGES.values(), ids=_EDGES.keys())
def test_the_last_of_what_is_allowed_is_allowed(runtime: dict[str, Any]) -> None:
    """Limits are inclusive, and an absent, null or empty field is its default."""
    assert graph_of(spec(component(**runtime))).refused == ()


def test_a_spec_is_read_whole() -> None:
    """Every field arrives where it belongs, numbers among quantities as text; parts stand in order of their names."""
    value = spec(
        component("b", resources={"requests": {"memory": 1024, "cpu": "0.5"}, "limits": {"cpu": "1"}}),
        component(
            "@acme/a",
            "2.0.0",
            image="a:1",
            replicas=3,
            port=81,
            env={"B": "2", "A": "1"},
            annotations={"note": "x", _PATH: "/healthz", _PORT: "82"},
        ),
        environment="Env 1",
        ingress={
            "host": "a.example.com",
            "routes": [
                {"path": "/BOX/", "targetComponent": "b", "targetPort": 83},
                {"path": "/", "targetComponent": "@acme/a"},
                {"path": "/BOX", "targetComponent": "b", "targetPort": 83},
            ],
        },
    )
    a = Component(
        package_name="@acme/a",
        package_version="2.0.0",
        artifact_hash="sha256:@acme/a-2.0.0",
        name=names.component_name("@acme/a"),
        kind="rest-service",
        image="a:1",
        replicas=3,
        port=81,
        env={"A": "1", "B": "2"},
        requests={},
        limits={},
        annotations={"note": "x"},
        probe_path="/healthz",
        probe_port=82,
    )
    b = Component(
        package_name="b",
        package_version="1.0.0",
        artifact_hash="sha256:b-1.0.0",
        name="b",
        kind="rest-service",
        image=None,
        replicas=1,
        port=8080,
        env={},
        requests={"cpu": "0.5", "memory": "1024"},
        limits={"cpu": "1"},
        annotations={},
        probe_path=None,
        probe_port=None,
    )
    assert normalize(value) == Graph(
        environment_id="Env 1",
        name=names.graph_name("Env 1"),
        build_id="build-1",
        root_package="users",
        components=(a, b),
        refused=(),
        host="a.example.com",
        routes=(Route("/", "@acme/a", None), Route("/BOX", "b", 83)),
        problems=(),
    )
    assert list(graph_of(value).components[0].env) == ["A", "B"]
    assert list(graph_of(value).components[1].requests) == ["cpu", "memory"]


_FRAMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a list": ([], ("spec: must be an object, not list",)),
    "empty": (
        {},
        (
            "environmentId: is required",
            "buildId: is required",
            "rootPackage: is required",
            "components: is required (it may be empty)",
        ),
    ),
    "unknown field": (
        {**spec(), "extra": 1},
        ("extra: unknown field (known: buildId, components, environmentId, ingress, rootPackage)",),
    ),
    "environment id too long": (spec(environment="x" * 254), ("environmentId: is longer than 253 characters",)),
    "build and root package too long": (
        {**spec(), "buildId": "x" * 254, "rootPackage": "x" * 254},
        ("buildId: is longer than 253 characters", "rootPackage: is longer than 253 characters"),
    ),
    "too many components": (
        spec(*({"packageName": f"c{n}"} for n in range(5001))),
        ("components: has 5001 entries, more than 5000",),
    ),
    "texts that are none": (
        {**spec(), "environmentId": 1, "buildId": [], "rootPackage": {}},
        (
            "environmentId: must be a string, not number",
            "buildId: must be a string, not list",
            "rootPackage: must be a string, not object",
        ),
    ),
    "components no list": ({**spec(), "components": {}}, ("components: must be a list, not object",)),
    "components without a name": (
        {**spec(), "components": [component(), "users", {"packageName": ""}, {"packageName": 1}, {}]},
        tuple(f"components[{index}].packageName: is required" for index in (1, 2, 3, 4)),
    ),
}


@pytest.mark.parametrize(("value", "problems"), _FRAMES.values(), ids=_FRAMES.keys())
def test_r12_a_spec_whose_frame_is_broken_is_refused_with_all_reasons(value: Any, problems: tuple[str, ...]) -> None:
    """What belongs to no single component refuses the whole graph, and every problem of the frame is told at once."""
    assert normalize(value) == Refusal(problems)


def test_the_longest_texts_are_allowed() -> None:
    """253 characters are what an object's name may have, and more than any other text needs; a path may have 1024."""
    longest, path, package = "x" * 253, "/" + "x" * 1023, f"@{'a' * 250}/a"
    value = {
        **spec(component(), component(package), environment=longest, build=longest),
        "rootPackage": longest,
        "ingress": {"routes": [{"path": path, "targetComponent": package}]},
    }
    for entry in value["components"]:
        entry |= {"packageVersion": longest, "artifactHash": longest}
    graph = graph_of(value)
    assert (graph.environment_id, graph.build_id, graph.root_package) == (longest, longest, longest)
    assert (graph.refused, graph.problems, [r.path for r in graph.routes]) == ((), (), [path])


def test_as_many_components_and_routes_as_the_crd_takes_are_allowed() -> None:
    """Five thousand of each; of more routes the first ones stay, and it is told."""
    components = [component(f"c{n}") for n in range(5000)]
    routes = [{"path": f"/{n}", "targetComponent": "c0"} for n in range(5000)]
    graph = graph_of(spec(*components, ingress={"routes": routes}))
    assert (len(graph.components), len(graph.routes), graph.problems) == (5000, 5000, ())
    graph = graph_of(spec(*components[:1], ingress={"routes": [*routes, {"path": "/x", "targetComponent": "c0"}]}))
    assert len(graph.routes) == 5000
    assert graph.problems == ("ingress.routes: has 5001 entries, more than 5000",)


_INGRESSES: dict[str, tuple[Any, str]] = {
    "no object": ([], "ingress: must be an object, not list"),
    "unknown field": ({"hosts": []}, "ingress.hosts: unknown field (known: host, routes)"),
    "host no text": ({"host": 1}, "ingress.host: must be a string, not number"),
    "host no name": (
        {"host": "not a host!"},
        (
            "ingress.host: 'not a host!' is not a DNS name: lower-case letters, digits and '-' between dots, "
            "at most 63 from dot to dot and 253 in all"
        ),
    ),
    "routes no list": ({"routes": {}}, "ingress.routes: must be a list, not object"),
}
_ROUTES: dict[str, tuple[Any, str]] = {
    "no object": (
        "x",
        (
            "ingress.routes[1]: must be an object, not string; ingress.routes[1].path: is required; "
            "ingress.routes[1].targetComponent: is required"
        ),
    ),
    "unknown field": (
        {"path": "/x", "targetComponent": "users", "port": 1},
        "ingress.routes[1].port: unknown field (known: path, targetComponent, targetPort)",
    ),
    "path": (
        {"path": "x", "targetComponent": "users"},
        f"ingress.routes[1].path: 'x' is not {_URL_PATH}",
    ),
    "empty segment": (
        {"path": "/a//b", "targetComponent": "users"},
        "ingress.routes[1].path: '/a//b' holds an empty or relative segment",
    ),
    "relative segment": (
        {"path": "/a/./b", "targetComponent": "users"},
        "ingress.routes[1].path: '/a/./b' holds an empty or relative segment",
    ),
    "segment upwards": (
        {"path": "/a/..", "targetComponent": "users"},
        "ingress.routes[1].path: '/a/..' holds an empty or relative segment",
    ),
    "target": (
        {"path": "/x", "targetComponent": "nobody"},
        "ingress.routes[1].targetComponent: 'nobody' is not a component of this graph",
    ),
    "port too low": (
        {"path": "/x", "targetComponent": "users", "targetPort": 0},
        "ingress.routes[1].targetPort: must be 1 to 65535, is 0",
    ),
    "port too high": (
        {"path": "/x", "targetComponent": "users", "targetPort": 65536},
        "ingress.routes[1].targetPort: must be 1 to 65535, is 65536",
    ),
    "path too long": (
        {"path": "/" + "x" * 1024, "targetComponent": "users"},
        "ingress.routes[1].path: is longer than 1024 characters",
    ),
    "target too long": (
        {"path": "/x", "targetComponent": "x" * 254},
        "ingress.routes[1].targetComponent: is longer than 253 characters",
    ),
    "ambiguous": (
        {"path": "/first/", "targetComponent": "users", "targetPort": 1},
        "ingress.routes: path /first leads to more than one target",
    ),
}


@pytest.mark.parametrize(("ingress", "problem"), _INGRESSES.values(), ids=_INGRESSES.keys())
def test_r12_a_bad_ingress_is_refused_and_the_components_proceed(ingress: Any, problem: str) -> None:
    """What is wrong with the ingress is told in one sentence and costs no component."""
    graph = graph_of(spec(component(), ingress=ingress))
    assert ([c.name for c in graph.components], graph.host, graph.routes) == (["users"], None, ())
    assert graph.problems == (problem,)


@pytest.mark.parametrize(("route", "problems"), _ROUTES.values(), ids=_ROUTES.keys())
def test_r12_a_bad_route_is_named_by_its_place(route: Any, problems: str) -> None:
    """A route that cannot be used is told by its index; those before and behind it stay, unless it contradicts them."""
    first = {"path": "/first", "targetComponent": "users"}
    last = {"path": "/last", "targetComponent": "users", "targetPort": 65535}
    graph = graph_of(spec(component(), ingress={"routes": [first, route, last]}))
    assert "; ".join(graph.problems) == problems
    kept = [] if "more than one" in problems else [Route("/first", "users", None)]
    assert graph.routes == (*kept, Route("/last", "users", 65535))


def test_r12_two_packages_of_one_object_name_are_both_refused() -> None:
    """A package that is called what another's name becomes shares its objects with nobody."""
    name = names.component_name("@acme/users")
    graph = graph_of(spec(component("@acme/users"), component(name), component("other")))
    assert [c.package_name for c in graph.components] == ["other"]
    problem = f"packageName: shares the object name '{name}' with another package"
    assert [(r.package_name, r.message) for r in graph.refused] == [("@acme/users", problem), (name, problem)]


def test_r12_two_components_of_one_name_are_both_refused() -> None:
    """Neither of two components with the same name is guessed to be the right one."""
    graph = graph_of(spec(component("users", "1.0.0"), component("users", "2.0.0"), component("other")))
    assert [c.package_name for c in graph.components] == ["other"]
    assert [r.package_name for r in graph.refused] == ["users"]
    assert graph.refused[0].message == "packageName: stands in the graph 2 times"


def test_r12_a_bad_route_is_refused_alone() -> None:
    """A route to nowhere, an ambiguous one and a relative one are named; the good one stays."""
    routes = [
        {"path": "/good", "targetComponent": "users"},
        {"path": "/nowhere", "targetComponent": "nobody"},
        {"path": "/twice", "targetComponent": "users"},
        {"path": "/twice/", "targetComponent": "users", "targetPort": 99},
        {"path": "/a/../b", "targetComponent": "users"},
    ]
    graph = graph_of(spec(component(), ingress={"host": "Bad Host", "routes": routes}))
    assert [r.path for r in graph.routes] == ["/good"]
    assert len(graph.problems) == 4
    assert graph.host is None


@pytest.mark.parametrize("broken", ["environmentId", "buildId", "rootPackage", "components"])
def test_a_spec_without_its_frame_is_refused_whole(broken: str) -> None:
    """A graph that lacks a required field is refused, and the field is named."""
    value = spec(component())
    del value[broken]
    result = normalize(value)
    assert isinstance(result, Refusal)
    assert any(broken in problem for problem in result.problems)


_LABEL = "x" * 63
_DNS = ".".join([_LABEL] * 4)[:253]
_PATTERNS: dict[str, tuple[Callable[[str], dict[str, Any]], list[str], list[str]]] = {
    "package": (
        component,
        ["a", "0", "@acme/users", "@a-1/b", "a.b/c_d-e", "a" * 128],
        ["Users", "@acme", "@Acme/u", "@/u", "-a", ".a", "a" * 129, "a b", "a\n", "é"],
    ),
    "kind": (
        lambda text: {**component(), "kind": text},
        ["a", "A.b_c-9", _LABEL],
        ["-a", "a-", ".a", "a_", _LABEL + "x", "a b", "a\n"],
    ),
    "image": (
        lambda text: component(image=text),
        ["a", "r.example.com:5000/a_b/c@sha256:00", "a" * 512],
        ["-a", ":a", "a" * 513, "a b", "a\n"],
    ),
    "environment": (
        lambda text: component(env={text: "x"}),
        ["A", "a.b-C_9", "-", "A" * 253],
        ["", "A" * 254, "A=B", "é", "A\n"],
    ),
    "annotation": (
        lambda text: component(annotations={text: "x"}),
        ["a", "A.b_c-9", "example.com/x", "a-b.c/X", _LABEL, f"{_DNS}/{_LABEL}"],
        [
            *["", "/x", "a/", "a/b/c", "-a", "a.", _LABEL + "x", "a\n", "x/é"],
            *["Example.com/x", "-a/x", "a-/x", "a..b/x", ".a/x", "a./x", f"{_DNS}x/x"],
        ],
    ),
    "resource": (
        lambda text: component(resources={"limits": {text: "1"}}),
        ["cpu", "memory", "ephemeral-storage", "example.com/gpu"],
        ["gpu", "/x", "example.com/", "a..b/gpu", "CPU", ""],
    ),
    "probe path": (
        lambda text: component(annotations={_PATH: text}),
        ["/", "/a/B.9", "/~u/%20!$&'()*+,;=:@_-"],
        ["", "a", "/a b", "/é", "/a?b", "/a#b", '/"', "/a\n"],
    ),
    "probe port": (
        lambda text: component(annotations={_PATH: "/", _PORT: text}),
        ["1", "80", "65535"],
        ["", "0", "08", "+8", "8 ", "８", "65536", "100000"],  # noqa: RUF001 - a digit, though none of a port
    ),
}


@pytest.mark.parametrize(("make", "good", "bad"), _PATTERNS.values(), ids=_PATTERNS.keys())
def test_r12_what_kubernetes_would_not_take_is_refused_before(
    make: Callable[[str], dict[str, Any]], good: list[str], bad: list[str]
) -> None:
    """Of each kind of name the longest and oddest that are valid are taken, and their invalid neighbours are not."""
    assert [text for text in good if graph_of(spec(make(text))).refused] == []
    assert [text for text in bad if not graph_of(spec(make(text))).refused] == []


def test_r12_a_host_is_a_dns_name() -> None:
    """Labels of 63 characters and 253 in all are what DNS allows."""
    good = ["a", "a-1.b", "0.example.com", _DNS]
    bad = ["A", "-a", "a-", "a..b", ".a", "a.", "a_b", _LABEL + "x", _DNS[:-1] + ".x", "a\n"]
    hosts = [graph_of(spec(component(), ingress={"host": text})).host for text in [*good, *bad]]
    assert hosts == [*good, *[None] * len(bad)]
