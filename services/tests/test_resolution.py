"""Resolving dependencies: against an exhaustive search."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_services.registry.resolution import Pin, ResolutionError, resolve
from turbo_services.registry.versions import satisfies

NAMES = "abcd"
VERSIONS = ("1.0.0", "1.1.0", "2.0.0")
RANGES = ("*", "^1", "^2", "~1.0", ">=1.1", "<1.0")
Universe = dict[Pin, dict[str, str]]


@st.composite
def universes(draw: st.DrawFn) -> Universe:
    """Packages a to d in some versions; each depends on later ones only, so there is no cycle."""
    universe: Universe = {}
    for index, name in enumerate(NAMES):
        for version in draw(st.sets(st.sampled_from(VERSIONS), min_size=1)):
            later = NAMES[index + 1 :]
            wanted = draw(st.sets(st.sampled_from(later), max_size=3)) if later else set()
            universe[Pin(name, version)] = {other: draw(st.sampled_from(RANGES)) for other in sorted(wanted)}
    return universe


def versions_of(universe: Universe, name: str) -> list[str]:
    """The versions of a package."""
    return [pin.version for pin in universe if pin.name == name]


def solved(universe: Universe, root: Pin, overrides: dict[str, str] | None = None) -> list[Pin]:
    """The closure in a universe."""
    return resolve(root, lambda name: versions_of(universe, name), lambda pin: universe[pin], overrides)


def solvable(universe: Universe, root: Pin) -> bool:
    """Whether any choice of one version a package meets every range, by trying all."""
    choices = [[Pin(n, v) for v in versions_of(universe, n)] for n in NAMES if n != root.name]
    for chosen in product(*choices):
        pins = {pin.name: pin for pin in (root, *chosen)}
        queue, seen, good = [root], {root}, True
        while queue and good:
            for name, constraint in universe[queue.pop()].items():
                good = good and satisfies(pins[name].version, constraint)
                if pins[name] not in seen:
                    seen.add(pins[name])
                    queue.append(pins[name])
        if good:
            return True
    return False


@given(universes())
def test_a_solution_is_found_whenever_there_is_one(universe: Universe) -> None:
    """The closure is complete, meets every range and is in topological order; failure means there is no solution."""
    root = Pin("a", versions_of(universe, "a")[0])
    if not solvable(universe, root):
        with pytest.raises(ResolutionError, match=str(root)):
            solved(universe, root)
        return
    order = solved(universe, root)
    assert order[-1] == root
    versions = {pin.name: pin.version for pin in order}
    assert len(versions) == len(order)
    seen: set[str] = set()
    needed = {root.name}
    for pin in order:
        for name, constraint in universe[pin].items():
            assert satisfies(versions[name], constraint)
            assert name in seen
            needed.add(name)
        seen.add(pin.name)
    assert needed == seen


@given(universes())
def test_resolution_does_not_depend_on_the_order_of_publication(universe: Universe) -> None:
    """The same packages, published in another order, give the same closure."""
    root = Pin("a", versions_of(universe, "a")[0])
    backwards = dict(reversed(universe.items()))
    if solvable(universe, root):
        assert solved(backwards, root) == solved(universe, root)


def test_conflict_tells_both_chains() -> None:
    """Two ranges that exclude each other are told with the way from the root to each."""
    universe = {
        Pin("app", "1.0.0"): {"left": "*", "right": "*"},
        Pin("left", "1.0.0"): {"leaf": "^1"},
        Pin("right", "1.0.0"): {"leaf": "^2"},
        Pin("leaf", "1.0.0"): {},
        Pin("leaf", "2.0.0"): {},
    }
    with pytest.raises(ResolutionError) as caught:
        solved(universe, Pin("app", "1.0.0"))
    assert str(caught.value) == (
        "conflicting dependency: app@1.0.0 -> left@1.0.0 -> leaf@^1; app@1.0.0 -> right@1.0.0 -> leaf@^2 "
        "(leaf has 2.0.0, 1.0.0)"
    )


def test_cycle_tells_its_members() -> None:
    """A cycle is refused with its members in order."""
    universe = {Pin("a", "1.0.0"): {"b": "*"}, Pin("b", "1.0.0"): {"c": "*"}, Pin("c", "1.0.0"): {"b": "*"}}
    with pytest.raises(ResolutionError, match=r"cyclic dependency: (b@1.0.0 -> c@1.0.0 -> b|c@1.0.0 -> b@1.0.0 -> c)"):
        solved(universe, Pin("a", "1.0.0"))


def test_override_is_taken_against_the_range() -> None:
    """An override replaces what the range would choose, also where the range excludes it."""
    universe = {Pin("a", "1.0.0"): {"b": "^1"}, Pin("b", "1.0.0"): {}, Pin("b", "9.0.0"): {}}
    assert solved(universe, Pin("a", "1.0.0"), {"b": "9.0.0"}) == [Pin("b", "9.0.0"), Pin("a", "1.0.0")]
    with pytest.raises(ResolutionError, match="override of 'z'"):
        solved(universe, Pin("a", "1.0.0"), {"z": "1.0.0"})
