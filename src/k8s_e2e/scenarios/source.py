"""YAML with line numbers: every mapping and list knows where it stands, so that an error can say so.

Scalars are those of YAML 1.2's core schema: `yes`, `2026-01-02` and `10:30` are text, as people expect in 2026 and as
JSON has it; `true`, `null`, `12` and `1.5` are what they look like.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from k8s_e2e.base.errors import UsageError

_CORE = {
    "tag:yaml.org,2002:null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "tag:yaml.org,2002:int": (r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
}


class Mark(NamedTuple):
    """A place in a file; ``line`` counts from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Mapping(dict[str, Any]):
    """A YAML mapping that knows where it and its keys stand."""

    def __init__(self, values: Iterable[tuple[str, Any]], mark: Mark, marks: dict[str, Mark]) -> None:
        super().__init__(values)
        self.mark = mark
        self.marks = marks


class Sequence(list[Any]):
    """A YAML list that knows where it and its items stand."""

    def __init__(self, values: Iterable[Any], mark: Mark, marks: list[Mark]) -> None:
        super().__init__(values)
        self.mark = mark
        self.marks = marks


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own name and form


for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def wrong(mark: Mark, message: str, *, hint: str = "", caller: Mark | None = None) -> UsageError:
    """Return the one-line error for something wrong at ``mark``.

    What stands in a template is wrong for a step that calls it: ``caller`` is named first if it is in another file.
    """
    if caller and caller.file != mark.file:
        return UsageError(f"{caller}: {message} (in the template: {mark})", hint=hint)
    return UsageError(f"{mark}: {message}", hint=hint)


def read(path: Path, asked: Mark | None = None) -> Mapping:
    """Read a YAML file whose top is a mapping; ``asked`` is where another file names it.

    Raises:
        UsageError: unreadable, not YAML, more than one document, a duplicate or non-text key, no mapping at the top.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise (wrong(asked, message) if asked else UsageError(message)) from error
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 text"
        raise UsageError(message) from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        value = _value(loader, node, path) if node is not None else None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        raise wrong(Mark(path, place.line + 1 if place else 1), f"not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        message = f"{path}: not YAML: {error}"
        raise UsageError(message) from error
    finally:
        loader.dispose()
    if not isinstance(value, Mapping):
        raise wrong(Mark(path, 1), "there is no mapping at the top", hint="a scenario begins with `name:` and `steps:`")
    return value


def place(tree: Any, location: Iterable[int | str]) -> Mark | None:
    """Return where the value at ``location`` (keys and indices from the top of ``tree``) stands, as deep as known."""
    mark = getattr(tree, "mark", None)
    for part in location:
        if isinstance(tree, Mapping) and part in tree:
            mark = tree.marks.get(str(part), mark)
            tree = tree[str(part)]
        elif isinstance(tree, Sequence) and isinstance(part, int) and part < len(tree):
            mark = tree.marks[part]
            tree = tree[part]
        # Anything else is a name that pydantic put in, such as that of a member of a union.
    return mark


def _value(loader: _Loader, node: yaml.Node, path: Path) -> Any:
    mark = Mark(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        items = [_value(loader, item, path) for item in node.value]
        return Sequence(items, mark, [Mark(path, item.start_mark.line + 1) for item in node.value])
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        marks: dict[str, Mark] = {}
        for key_node, value_node in node.value:
            here = Mark(path, key_node.start_mark.line + 1)
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key, (int, float, bool)):
                key = key_node.value
            if not isinstance(key, str):
                raise wrong(here, "a key must be text")
            if key in values:
                raise wrong(here, f"key {key!r} stands twice (first in line {marks[key].line})")
            values[key] = _value(loader, value_node, path)
            marks[key] = here
        return Mapping(values.items(), mark, marks)
    return loader.construct_object(node)
