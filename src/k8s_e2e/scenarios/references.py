"""`${name}`: what may stand in a scenario file, and putting values in its place.

``${run.id}``, ``${run.namespace}`` and ``${run.image_prefix}`` are the run's; every other name is a parameter of a
template, a variable of the scenario (`vars`) or was captured by an earlier step. ``$${`` is a plain ``${``.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from k8s_e2e.scenarios import source

RUN = ("run.id", "run.namespace", "run.image_prefix")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^${}]*)\}")
_VERBATIM = (("script", "run"),)  # a shell has its own `${...}`


class Unknown(LookupError):
    """A name that has no value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Reference(NamedTuple):
    """One `${name}` and where it stands."""

    name: str
    mark: source.Mark | None


def found(tree: Any, location: tuple[str, ...] = (), mark: source.Mark | None = None) -> Iterator[Reference]:
    """Yield every reference in ``tree``, keys included, in order."""
    if location[-2:] in _VERBATIM:
        return
    if isinstance(tree, str):
        for match in _REFERENCE.finditer(tree):
            if not match[1]:
                yield Reference(match[2].strip(), mark)
    elif isinstance(tree, Mapping):
        marks = getattr(tree, "marks", {})
        for key, value in tree.items():
            here = marks.get(key, mark)
            yield from found(key, (), here)
            yield from found(value, (*location, key), here)
    elif isinstance(tree, list):
        marks_of_items = getattr(tree, "marks", [mark] * len(tree))
        for item, here in zip(tree, marks_of_items, strict=True):
            yield from found(item, (), here)


def resolve(tree: Any, lookup: Callable[[str], Any], *, partial: bool = False) -> Any:
    """Return ``tree`` with every reference replaced by what ``lookup`` returns for its name.

    Text that is one reference and nothing else becomes the value itself (a number stays a number); a key or an item
    whose value becomes null like that is left out. Inside other text a value is written as text, or as JSON. With
    ``partial`` (for templates, whose result is resolved once more) unknown names and ``$${`` stay as they are.

    Raises:
        Unknown: ``lookup`` raised it, and ``partial`` is not set.
    """
    return _resolve(tree, lookup, partial, ())


def _resolve(tree: Any, lookup: Callable[[str], Any], partial: bool, location: tuple[str, ...]) -> Any:
    if isinstance(tree, str):
        return _text(tree, lookup, partial) if location[-2:] not in _VERBATIM else tree
    if isinstance(tree, Mapping):
        values, marks = {}, {}
        for key, value in tree.items():
            new = _resolve(value, lookup, partial, (*location, key))
            if new is None and value is not None:
                continue
            name = str(_text(key, lookup, partial))
            values[name] = new
            if isinstance(tree, source.Mapping):
                marks[name] = tree.marks[key]
        return source.Mapping(values.items(), tree.mark, marks) if isinstance(tree, source.Mapping) else values
    if isinstance(tree, list):
        pairs = [(_resolve(item, lookup, partial, ()), item, at) for at, item in enumerate(tree)]
        kept = [(new, at) for new, item, at in pairs if new is not None or item is None]
        if isinstance(tree, source.Sequence):
            return source.Sequence([new for new, _ in kept], tree.mark, [tree.marks[at] for _, at in kept])
        return [new for new, _ in kept]
    return tree


def _text(text: str, lookup: Callable[[str], Any], partial: bool) -> Any:
    if "$" not in text:
        return text

    def value(name: str, written: str) -> Any:
        try:
            return lookup(name)
        except Unknown:
            if partial:
                return written
            raise

    whole = _REFERENCE.fullmatch(text)
    if whole and not whole[1]:
        return value(whole[2].strip(), text)

    def inside(match: re.Match[str]) -> str:
        if match[1]:
            return match[0] if partial else match[1]
        return written(value(match[2].strip(), match[0]))

    return _REFERENCE.sub(inside, text)


def written(value: Any) -> str:
    """Return ``value`` as it stands inside text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
