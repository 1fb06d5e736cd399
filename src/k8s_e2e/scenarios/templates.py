"""Step templates: the words of a platform, written in YAML, expanded before anything is checked or run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from k8s_e2e.scenarios import references, source
from k8s_e2e.scenarios.checking import checked, unknown
from k8s_e2e.scenarios.model import KINDS, Template, TemplateFile

DEEPEST = 20  # templates in templates; more is a circle


class Known(NamedTuple):
    """A template with the mapping it was read from, which has the line numbers."""

    template: Template
    tree: source.Mapping


class Expanded(NamedTuple):
    """One step of a known kind; ``mark`` is where the scenario asks for it."""

    kind: str
    tree: source.Mapping
    mark: source.Mark


def read_templates(path: Path, asked: source.Mark) -> dict[str, Known]:
    """Read a file with step templates; ``asked`` is where a scenario names it.

    Raises:
        UsageError: it is not one, or a template has the name of a step kind.
    """
    tree = source.read(path, asked)
    file = checked(TemplateFile, tree, tree.mark)
    templates = tree["templates"]
    for name in file.templates:
        if name in KINDS or name == "name":
            raise source.wrong(templates.marks[name], f"a template cannot be called {name!r}: that is taken")
    return {name: Known(template, templates[name]) for name, template in file.templates.items()}


def expand(
    tree: Any, known: Mapping[str, Known], fallback: source.Mark, *, called: tuple[str, ...] = ()
) -> Iterator[Expanded]:
    """Yield the steps that ``tree`` stands for: itself, or those of the template it calls.

    Raises:
        UsageError: no step kind or template is named, or more than one; a parameter is unknown or missing.
    """
    if not isinstance(tree, source.Mapping):
        raise source.wrong(fallback, "a step must be a mapping such as `http: {...}`")
    names = [key for key in tree if key in KINDS or key in known]
    if len(names) != 1:
        raise _no_kind(tree, names, known)
    name = names[0]
    if name in KINDS:
        yield Expanded(name, tree, tree.mark)
        return
    if len(called) >= DEEPEST:
        raise source.wrong(tree.mark, f"templates call each other in a circle: {' > '.join([*called, name])}")
    for key in tree:
        if key not in (name, "name"):
            raise source.wrong(tree.marks[key], f"unknown key {key!r}", hint=f"a {name} step has only `name` beside it")
    values = _arguments(name, known[name].template, tree)
    steps = list(_steps(name, known, values, (*called, name)))
    title = tree.get("name", "")
    for step in steps:
        yield Expanded(step.kind, _titled(step.tree, title, alone=len(steps) == 1), tree.mark)


def _steps(
    name: str, known: Mapping[str, Known], values: dict[str, Any], called: tuple[str, ...]
) -> Iterator[Expanded]:
    def lookup(parameter: str) -> Any:
        if parameter not in values:
            raise references.Unknown(parameter)
        return values[parameter]

    steps = known[name].tree["steps"]
    for raw, mark in zip(steps, steps.marks, strict=True):
        yield from expand(references.resolve(raw, lookup, partial=True), known, mark, called=called)


def _arguments(name: str, template: Template, tree: source.Mapping) -> dict[str, Any]:
    given = tree[name] if tree[name] is not None else {}
    mark = tree.marks[name]
    if not isinstance(given, Mapping):
        raise source.wrong(mark, f"{name} takes parameters: {{{', '.join(template.parameters)}}}")
    for parameter in given:
        if parameter not in template.parameters:
            here = getattr(given, "marks", {}).get(parameter, mark)
            raise unknown(here, f"unknown parameter {parameter!r} of {name}", parameter, template.parameters)
    missing = [parameter for parameter in template.required if given.get(parameter) is None]
    if missing:
        raise source.wrong(mark, f"{name} needs {', '.join(missing)}")
    return {**template.defaults, **given}


def _titled(tree: source.Mapping, title: str, *, alone: bool) -> source.Mapping:
    if not title:
        return tree
    own = tree.get("name", "")
    name = title if alone or not own else f"{title}: {own}"
    return source.Mapping([*tree.items(), ("name", name)], tree.mark, {**tree.marks, "name": tree.mark})


def _no_kind(tree: source.Mapping, names: list[str], known: Mapping[str, Known]) -> Exception:
    if names:
        return source.wrong(
            tree.mark, f"a step is one thing, this is {' and '.join(names)}", hint="make two steps of it"
        )
    common = {key for model in KINDS.values() for key in ("for", *model.model_fields)}
    odd = next((key for key in tree if key not in common), "")
    what = f"unknown step kind {odd!r}" if odd else "the step has no kind"
    return unknown(tree.marks.get(odd, tree.mark), what, odd, [*KINDS, *known])
