"""JSON Schemas of the files of a run directory, made from the models that read and write them."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from k8s_e2e.base.errors import UsageError
from k8s_e2e.model.evidence import Actions, Derived, EventRevision, Manifest, ObjectRevision, Traces
from k8s_e2e.model.results import RequestRecord, Results, Screenshot
from k8s_e2e.model.run import RunRecord
from k8s_e2e.model.story import Findings, Timeline

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Maker = Callable[[], dict[str, Any]]
"""Makes a schema that is not one of a msgspec model, such as that of scenario files."""

MODELS: dict[str, type[msgspec.Struct]] = {
    "run": RunRecord,
    "results": Results,
    "request": RequestRecord,
    "screenshot": Screenshot,
    "manifest": Manifest,
    "derived": Derived,
    "actions": Actions,
    "event": EventRevision,
    "object": ObjectRevision,
    "traces": Traces,
    "findings": Findings,
    "timeline": Timeline,
}
"""Name -> model. ``request``, ``event`` and ``object`` are one line of their JSON-lines files."""


def names(more: Mapping[str, Maker] | None = None) -> list[str]:
    """Return the names that `schema` knows, sorted; ``more`` are those of other layers."""
    return sorted({*MODELS, *(more or {})})


def schema(name: str, more: Mapping[str, Maker] | None = None) -> dict[str, Any]:
    """Return the JSON Schema called ``name``.

    Raises:
        UsageError: no schema has that name; the known ones are listed.
    """
    if more and name in more:
        return more[name]()
    if name not in MODELS:
        message = f"no schema is called {name!r}"
        raise UsageError(message, hint=f"known: {', '.join(names(more))}")
    return {"$schema": DIALECT, "title": name, **msgspec.json.schema(MODELS[name])}
