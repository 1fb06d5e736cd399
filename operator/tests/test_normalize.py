"""What a spec may say, and the sentence that refuses the rest."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import COMPONENTS, JSON, OPTIONS, OWNER, component, converge, graph_of, spec

from turbo_operator.applier import NoopApplier
from turbo_operator.core import names
from turbo_operator.core.desired import desired
from turbo_operator.core.graph import Graph, Refusal
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


_BAD = [
    (component("BAD NAME"), "packageName"),
    (component(replicas=-1), "runtime.replicas"),
    (component(replicas=True), "runtime.replicas"),
    (component(port=0), "runtime.port"),
    (component(env={"A B": "x"}), "runtime.env[A B]"),
    (component(env={"A": 1}), "runtime.env[A]"),
    (component(image="a b"), "runtime.image"),
    (component(resources={"requests": {"cpu": "lots"}}), "runtime.resources.requests[cpu]"),
    (component(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}), "more than the limit"),
    (component(resources={"requests": {"gpu": "1"}}), "unknown resource"),
    (component(annotations={"turboengine.io/x": "y"}), "is reserved"),
    (component(annotations={"container.apparmor.security.beta.kubernetes.io/x": "unconfined"}), "for Kubernetes"),
    (component(annotations={names.ANNOTATION_PROBE_PATH: "no-slash"}), "not a URL path"),
    (component(annotations={names.ANNOTATION_PROBE_PORT: "80"}), "without a probe path"),
    (component(colour="red"), "runtime.colour: unknown field"),
    ({**component(), "packageVersion": ""}, "packageVersion: is required"),
    ({**component(), "kind": "no spaces please"}, "kind"),
]


@pytest.mark.parametrize(("bad", "reason"), _BAD, ids=[reason for _, reason in _BAD])
def test_r12_an_invalid_component_is_refused_and_the_others_proceed(bad: dict[str, Any], reason: str) -> None:
    """One unusable component is named with its reason; the rest is applied, and what it had before is left alone."""
    applier = NoopApplier()
    package = bad["packageName"]
    converge(applier, spec(component(package.lower().replace(" ", "-")), component("other")))
    before = {key: obj for key, obj in applier.objects.items() if "other" not in key[1]}
    actions = converge(applier, spec(bad, component("other", version="2.0.0")))
    refused = [a for a in actions if a.verb == "Refuse"]
    assert [(a.name, reason in a.reason) for a in refused] == [(package, True)]
    assert applier.objects["Deployment", "deploy-other"]["metadata"]["annotations"][
        names.ANNOTATION_PACKAGE_VERSION
    ] == ("2.0.0")
    if package == "users":
        assert {key: applier.objects.get(key) for key in before} == before


def test_r12_two_components_of_one_name_are_both_refused() -> None:
    """Neither of two components with the same name is guessed to be the right one."""
    graph = graph_of(spec(component("users", "1.0.0"), component("users", "2.0.0"), component("other")))
    assert [c.package_name for c in graph.components] == ["other"]
    assert [r.package_name for r in graph.refused] == ["users"]
    assert "2 times" in graph.refused[0].message


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
