"""Versions and ranges."""

import nodesemver  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_services.registry.versions import is_range, is_version, newest, satisfies, sort_key

NUMBER = st.integers(0, 30)
IDENTIFIER = st.one_of(NUMBER.map(str), st.from_regex(r"[a-z-][a-z0-9-]{0,3}", fullmatch=True))
NUMBERS = st.tuples(NUMBER, NUMBER, NUMBER)
VERSIONS = st.builds(
    lambda numbers, pre: ".".join(map(str, numbers)) + (f"-{'.'.join(pre)}" if pre else ""),
    NUMBERS,
    st.lists(IDENTIFIER, max_size=3),
)


@given(VERSIONS, VERSIONS)
def test_sort_key_orders_like_semver(left: str, right: str) -> None:
    """The key that the database sorts by agrees with the precedence of semver 11."""
    expected = nodesemver.compare(left, right, loose=False)
    assert (sort_key(left) > sort_key(right)) - (sort_key(left) < sort_key(right)) == expected


@given(NUMBERS, NUMBERS)
def test_caret_keeps_the_leftmost_nonzero_number(base: tuple[int, ...], other: tuple[int, ...]) -> None:
    """``^a.b.c`` holds what is not older and has the same numbers up to the leftmost that is not zero."""
    fixed = next((index for index, number in enumerate(base) if number), 2) + 1
    expected = other >= base and other[:fixed] == base[:fixed]
    assert satisfies(".".join(map(str, other)), "^" + ".".join(map(str, base))) == expected


@given(NUMBERS, NUMBERS)
def test_tilde_keeps_major_and_minor(base: tuple[int, ...], other: tuple[int, ...]) -> None:
    """``~a.b.c`` holds what is not older and differs in the patch only."""
    expected = other >= base and other[:2] == base[:2]
    assert satisfies(".".join(map(str, other)), "~" + ".".join(map(str, base))) == expected


@given(st.lists(VERSIONS, max_size=8, unique=True))
def test_latest_prefers_releases(versions: list[str]) -> None:
    """``latest`` is the highest release, and the highest prerelease only where there is no release."""
    releases = [v for v in versions if "-" not in v]
    expected = max(releases or versions, key=sort_key, default=None)
    assert newest(versions, "latest") == expected


@pytest.mark.parametrize(
    ("version", "constraint", "expected"),
    [
        ("1.5.0", "1.x", True),
        ("1.5.0", "1 - 2", True),
        ("5.0.0", "^1 || ^5", True),
        ("1.0.0", "", True),
        ("1.0.0-rc.1", "*", False),
        ("1.2.3-b", ">=1.2.3-a <2", True),
        ("2.0.0-b", ">=1.2.3-a <3", False),
        ("1.0.0+build", "1.0.0", True),
    ],
)
def test_ranges_of_the_grammar(version: str, constraint: str, *, expected: bool) -> None:
    """Every form of npm's grammar chooses as npm does."""
    assert satisfies(version, constraint) == expected


@pytest.mark.parametrize("text", ["1", "1.0", "01.0.0", "1.0.0-01", "v1.0.0", "1.0.0\n", "1.0.0-", "", "1.0.0-ä"])
def test_what_is_no_version(text: str) -> None:
    """Only full semantic versions are versions."""
    assert not is_version(text)


@pytest.mark.parametrize("text", ["latest", "^^1", "banana", ">=", "1.0.0.0"])
def test_what_is_no_range(text: str) -> None:
    """Words and malformed ranges are refused."""
    assert not is_range(text)
