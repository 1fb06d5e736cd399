"""Resolving dependencies: one version per package such that every range is met.

The search is resolvelib's backtracking (pip's resolver), newest versions first; pure, deterministic.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, NamedTuple

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver

from turbo_services.registry.versions import satisfies, sort_key

MAX_ROUNDS: Final = 5000

Needs = Mapping[str, str]
"""Package name -> semver range."""


class Pin(NamedTuple):
    """A package in one version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class Need(NamedTuple):
    """A range of versions of a package that somebody asks for."""

    name: str
    constraint: str

    def __str__(self) -> str:
        return f"{self.name}@{self.constraint or '*'}"


class ResolutionError(Exception):
    """The dependencies cannot be had; the message is the chain from the root to the trouble."""


class _Provider(AbstractProvider[Need, Pin, str]):
    def __init__(
        self,
        choices: Callable[[str], Iterable[str]],
        needs: Callable[[Pin], Needs],
        pinned: Mapping[str, str],
    ) -> None:
        self._choices = choices
        self._needs = needs
        self._pinned = pinned

    def identify(self, requirement_or_candidate: Need | Pin) -> str:
        return requirement_or_candidate.name

    def get_preference(self, identifier: str, *_more: Any, **_named: Any) -> str:
        return identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Need]],
        incompatibilities: Mapping[str, Iterator[Pin]],
    ) -> Sequence[Pin]:
        refused = {pin.version for pin in incompatibilities[identifier]}
        if identifier in self._pinned:
            version = self._pinned[identifier]
            return [] if version in refused else [Pin(identifier, version)]
        asked = [need.constraint for need in requirements[identifier]]
        fitting = [
            version
            for version in self._choices(identifier)
            if version not in refused and all(satisfies(version, constraint) for constraint in asked)
        ]
        return [Pin(identifier, version) for version in sorted(fitting, key=sort_key, reverse=True)]

    def is_satisfied_by(self, requirement: Need, candidate: Pin) -> bool:
        return requirement.name in self._pinned or satisfies(candidate.version, requirement.constraint)

    def get_dependencies(self, candidate: Pin) -> list[Need]:
        return [Need(name, constraint) for name, constraint in sorted(self._needs(candidate).items())]


def resolve(
    root: Pin,
    choices: Callable[[str], Iterable[str]],
    needs: Callable[[Pin], Needs],
    overrides: Mapping[str, str] | None = None,
) -> list[Pin]:
    """The closure of ``root`` in topological order: every package after those it depends on, the root last.

    Args:
        root: where to start.
        choices: the versions of a package that a range may choose.
        needs: what a package version depends on.
        overrides: package name -> version that is taken whatever the ranges say.

    Raises:
        ResolutionError: unresolvable, conflicting, cyclic, or an override of a package that is not needed.
    """
    pinned = dict(overrides or {}) | {root.name: root.version}
    resolver = Resolver(_Provider(choices, needs, pinned), BaseReporter[Need, Pin, str]())
    try:
        found = resolver.resolve([Need(root.name, root.version)], max_rounds=MAX_ROUNDS).mapping
    except ResolutionImpossible as error:
        raise ResolutionError(_conflict(root, error, choices, needs)) from None
    except ResolutionTooDeep:
        raise ResolutionError(f"{root}: no solution within {MAX_ROUNDS} rounds of search") from None
    unused = sorted(set(pinned) - set(found))
    if unused:
        raise ResolutionError(f"override of {unused[0]!r}: {root} does not depend on it")
    try:
        return [found[name] for name in _ordered({name: sorted(needs(pin)) for name, pin in found.items()})]
    except CycleError as error:
        cycle = " -> ".join(str(found[name]) for name in reversed(error.args[1]))
        raise ResolutionError(f"cyclic dependency: {cycle}") from None


def _ordered(needs: Mapping[str, Iterable[str]]) -> Iterator[str]:
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    while sorter.is_active():
        for name in sorted(sorter.get_ready()):
            yield name
            sorter.done(name)


def _conflict(
    root: Pin,
    error: ResolutionImpossible[Need, Pin],
    choices: Callable[[str], Iterable[str]],
    needs: Callable[[Pin], Needs],
) -> str:
    """One line a cause: the chain that asks, and what there is."""
    causes = sorted({(str(cause.parent or root), cause.requirement) for cause in error.causes})
    lines = []
    for parent, need in causes:
        chain = _chain(root, parent, choices, needs)
        lines.append(f"{' -> '.join([*chain, str(need)])}")
    name = causes[0][1].name
    available = sorted(choices(name), key=sort_key, reverse=True)
    there = f"has {', '.join(available[:10])}" if available else "is not published"
    kind = "conflicting" if len(causes) > 1 else "unresolvable"
    return f"{kind} dependency: {'; '.join(lines)} ({name} {there})"


def _chain(root: Pin, end: str, choices: Callable[[str], Iterable[str]], needs: Callable[[Pin], Needs]) -> list[str]:
    """A shortest way from the root to ``end`` over versions that ranges allow, as far as one is found."""
    ways: dict[Pin, list[str]] = {root: [str(root)]}
    queue = [root]
    for pin in queue:
        if str(pin) == end:
            return ways[pin]
        for name, constraint in sorted(needs(pin).items()):
            for version in choices(name):
                reached = Pin(name, version)
                if reached not in ways and satisfies(version, constraint):
                    ways[reached] = [*ways[pin], str(reached)]
                    queue.append(reached)
    return [str(root), "...", end] if end != str(root) else [end]
