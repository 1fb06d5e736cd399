"""Names of objects."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_operator.core import names
from turbo_operator.core.graph import environment_of


def test_names_stay_when_valid_and_are_hashed_when_not() -> None:
    """A DNS label is kept; anything else becomes one that names only itself."""
    assert names.component_name("users-service") == "users-service"
    assert names.component_name("@acme/users").startswith("acme-users-")
    assert names.component_name("@acme/users") != names.component_name("acme-users")
    assert len("deploy-" + names.component_name("x" * 200)) <= 63


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_names_are_labels_and_distinct(one: str, two: str) -> None:
    """Every name is a DNS label, and two raw names never share one."""
    left, right = names.graph_name(one), names.graph_name(two)
    assert names.object_name(left) == left
    assert len(left) <= 63
    assert (left == right) == (one == two) or left in {one, two}


_NAMES = {
    "valid": ("a-1", "a-1"),
    "one character": ("a", "a"),
    "as long as may be": ("x" * 52, "x" * 52),
    "too long": ("x" * 53, "x" * 43 + "-8a04a39a"),
    "cut at a dash": ("x" * 42 + "-y" * 6, "x" * 42 + "-82298b51"),
    "too long behind a sign": ("@" + "a" * 60, "a" * 43 + "-ce49ef06"),
    "capitals": ("Users", "users-6b0cc904"),
    "signs at both ends": ("-@Acme--web/UI_", "acme-web-ui-80b42a91"),
    "nothing left": ("@/_", "x-1f69fc5c"),
    "not UTF-8": ("a\ud800", "a-25819b9b"),
}


@pytest.mark.parametrize(("raw", "name"), _NAMES.values(), ids=_NAMES.keys())
def test_names_are_the_same_in_every_version(raw: str, name: str) -> None:
    """What a name is made of is fixed: an operator that made another would leave the old objects and make new ones."""
    assert names.component_name(raw) == name


def test_a_graph_may_be_called_by_all_of_a_label() -> None:
    """The name of an environment keeps 63 characters, what is longer ends in its hash."""
    assert names.graph_name("x" * 63) == "x" * 63
    assert names.graph_name("x" * 64) == "x" * 54 + "-7ce10097"


_ENVIRONMENTS: dict[str, tuple[str, Any, str]] = {
    "its name": ("env-1", {"environmentId": "env-1"}, "env-1"),
    "the name of its environment": (names.graph_name("Env 1"), {"environmentId": "Env 1"}, "Env 1"),
    "the name of another one": ("env-1", {"environmentId": "env-2"}, "env-1"),
    "the id of another one as it is": (
        names.graph_name("Env 1"),
        {"environmentId": "Env 2"},
        names.graph_name("Env 1"),
    ),
    "no environment": ("env-1", {}, "env-1"),
    "no spec": ("env-1", None, "env-1"),
    "no text": ("env-1", {"environmentId": 1}, "env-1"),
}


@pytest.mark.parametrize(("name", "spec", "environment"), _ENVIRONMENTS.values(), ids=_ENVIRONMENTS.keys())
def test_an_apigraph_speaks_for_the_environment_whose_name_it_bears(name: str, spec: Any, environment: str) -> None:
    """What a spec says of another environment counts for nothing."""
    assert environment_of({"metadata": {"name": name}, "spec": spec}) == environment
