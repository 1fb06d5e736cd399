"""What an answer of the builder means."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.desired import Object
from turbo_operator.core.plan import being_deleted


class PollError(Exception):
    """The builder gave no usable answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One well-formed answer of the builder.

    Attributes:
        graphs: Specs by environment id.
        etag: Of the answer; empty if it has none.
        store: The builder's name for its data; None if it does not tell.
        traceparents: W3C trace context by environment id.
        complete: Every entry could be read. Only then does an absence mean anything.
        unusable: Environment id -> why its entry could not.
    """

    graphs: Mapping[str, Mapping[str, Any]]
    etag: str = ""
    store: str | None = None
    traceparents: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    unusable: Mapping[str, str] = field(default_factory=dict)


def read_answer(body: bytes, etag: str) -> Answer:
    """The meaning of a 200 answer.

    Raises:
        PollError: it is not of the form `{"graphs": [...]}`.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise PollError(f"the answer is not JSON: {error}") from error
    entries = document.get("graphs") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise PollError("the answer has no list 'graphs'")
    graphs: dict[str, Mapping[str, Any]] = {}
    unusable: dict[str, str] = {}
    complete = True
    for entry in entries:
        environment_id = entry.get("environmentId") if isinstance(entry, dict) else None
        if not isinstance(environment_id, str) or not environment_id or environment_id in graphs:
            complete = False
        elif _is_text(entry):
            graphs[environment_id] = entry
        else:
            complete = False
            if _is_text(environment_id):
                unusable[environment_id] = "the builder's graph has half a surrogate pair in it, which nobody can write"
    traceparents = document.get("traceparents")
    store = document.get("store")
    return Answer(
        graphs,
        etag,
        store if isinstance(store, str) and store and _is_text(store) else None,
        {k: v for k, v in traceparents.items() if isinstance(v, str)} if isinstance(traceparents, dict) else {},
        complete,
        unusable,
    )


def _is_text(value: Any) -> bool:
    """Whether all of it can be written again: JSON can name half a surrogate pair, which is no character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def prunable(present: list[Object], answer: Answer, seen: Mapping[str, str]) -> set[str]:
    """Names of the APIGraphs of which `answer` says that the builder deleted them.

    Args:
        present: All APIGraphs.
        answer: What the builder says now.
        seen: ETag of the last answer that had each environment's graph, by name of the APIGraph.
    """
    if not answer.complete:
        return set()
    kept = {names.graph_name(environment_id) for environment_id in answer.graphs}
    gone = set()
    for obj in present:
        metadata = obj["metadata"]
        name = metadata["name"]
        if (metadata.get("labels") or {}).get(names.LABEL_SOURCE) != "builder" or name in kept or being_deleted(obj):
            continue
        held_by = (metadata.get("annotations") or {}).get(names.ANNOTATION_STORE)
        if answer.store is not None and held_by is not None:
            proven = answer.store == held_by
        else:
            proven = bool(answer.etag) and seen.get(name, answer.etag) != answer.etag
        if proven:
            gone.add(name)
    return gone
