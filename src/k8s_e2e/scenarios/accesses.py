"""What the steps of scenarios do to a cluster, as permissions; what only a script knows is not among them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from k8s_e2e.platform.permissions import APPLY, FOLLOW, REMOVE, Access, Kind, kind_of
from k8s_e2e.scenarios import references
from k8s_e2e.scenarios.loader import Scenario

_VERBS = {"assert": ("list", "watch"), "wait": FOLLOW, "apply": ("get", *APPLY, *REMOVE), "delete": REMOVE}


class Needs(NamedTuple):
    """What steps need, and those of which it cannot be told (``scenario: step``): they name a kind by a capture."""

    accesses: tuple[Access, ...]
    unchecked: tuple[str, ...] = ()


def needs(
    scenarios: Iterable[Scenario], namespace: str, known: Mapping[tuple[str, str], Kind], run: Mapping[str, str]
) -> Needs:
    """Return what the steps that speak of objects, or run a program in a pod, need.

    Args:
        scenarios: variables that no step captures anew are put in.
        namespace: the run's.
        known: kinds, as `permissions.needed` has them.
        run: what of ``${run.id}`` and ``${run.image_prefix}`` is known, by these names.
    """
    found: list[Access] = []
    unchecked: list[str] = []
    for scenario in scenarios:
        steps = (*scenario.steps, *scenario.cleanup)
        names: dict[str, Any] = {**run, "run.namespace": namespace}
        captured = {name for step in steps for name in step.tree.get("capture") or ()}
        for name, value in scenario.variables.items():
            if name not in captured:
                names[name] = _resolved(value, names)
        for step in steps:
            try:
                found += _of(step.kind, _resolved(step.tree[step.kind], names), namespace, known)
            except references.Unknown:
                unchecked.append(f"{scenario.name}: {step.name}")
    return Needs(tuple(found), tuple(dict.fromkeys(unchecked)))


def _resolved(tree: Any, names: Mapping[str, Any]) -> Any:
    def lookup(name: str) -> Any:
        if name not in names:
            raise references.Unknown(name)
        return names[name]

    return references.resolve(tree, lookup, partial=True)


def _of(kind: str, content: Any, namespace: str, known: Mapping[tuple[str, str], Kind]) -> Iterator[Access]:
    if kind == "exec":
        yield Access("create", "", "pods/exec", namespace)
        yield Access("get", "", "pods/exec", namespace)  # over a websocket
        return
    target = content.get("object") if kind == "wait" else content
    if kind not in _VERBS or not target:
        return
    metadata = target.get("metadata") or {}
    space = metadata.get("namespace") or target.get("namespace") or namespace
    texts = [str(text) for text in (target.get("apiVersion"), target.get("kind"), space)]
    for reference in references.found(texts):
        raise references.Unknown(reference.name)
    found = kind_of(texts[0], texts[1], known)
    for verb in _VERBS[kind]:
        yield Access(verb, found.group, found.plural, texts[2] if found.namespaced else "")
