"""What the steps of scenarios do to a cluster, as permissions; what only a script knows is not among them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from k8s_e2e.platform.permissions import APPLY, FOLLOW, REMOVE, Access, Kind, kind_of
from k8s_e2e.scenarios.loader import Scenario

_VERBS = {"assert": ("list", "watch"), "wait": FOLLOW, "apply": (*APPLY, *REMOVE), "delete": REMOVE}


def accesses(
    scenarios: Iterable[Scenario], namespace: str, known: Mapping[tuple[str, str], Kind]
) -> tuple[Access, ...]:
    """Return what the steps that speak of objects, or run a program in a pod, need; ``known`` kinds as in `needed`."""
    steps = [step for scenario in scenarios for step in (*scenario.steps, *scenario.cleanup)]
    return tuple(access for step in steps for access in _of(step.kind, step.tree[step.kind], namespace, known))


def _of(kind: str, content: Any, namespace: str, known: Mapping[tuple[str, str], Kind]) -> Iterator[Access]:
    if kind == "exec":
        yield Access("create", "", "pods/exec", namespace)
        yield Access("get", "", "pods/exec", namespace)  # over a websocket
        return
    target = content.get("object") if kind == "wait" else content
    if kind not in _VERBS or not target:
        return
    metadata = target.get("metadata") or {}
    texts = (target["apiVersion"], target["kind"], metadata.get("namespace") or target.get("namespace") or namespace)
    if any("$" in text for text in texts):
        return  # only the run knows
    found = kind_of(texts[0], texts[1], known)
    for verb in _VERBS[kind]:
        yield Access(verb, found.group, found.plural, texts[2] if found.namespaced else "")
