"""Names of objects."""

from hypothesis import given
from hypothesis import strategies as st

from turbo_operator.core import names


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
