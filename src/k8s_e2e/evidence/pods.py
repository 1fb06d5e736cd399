"""Which pods a run had, and which service each belonged to: from the recorded revisions and the final state."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


class _Owner(msgspec.Struct):
    kind: str = ""
    name: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    labels: dict[str, str] = {}
    owner_references: list[_Owner] = []


class _Object(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Revision(msgspec.Struct):
    kind: str = ""
    object: _Object = msgspec.field(default_factory=_Object)


class Pod(msgspec.Struct, frozen=True):
    """One pod: its name, uid and service (label ``app``, else ``app.kubernetes.io/name``, else its owner's name)."""

    name: str
    uid: str
    service: str


def recorded(history: Path) -> list[Pod]:
    """Return every pod of history.jsonl, once, in the order of appearance."""
    if not history.exists():
        return []
    decoder = msgspec.json.Decoder(_Revision)
    found: dict[str, Pod] = {}
    with history.open("rb") as stream:
        for line in stream:
            if b'"kind":"Pod"' not in line:
                continue
            try:
                revision = decoder.decode(line)
            except msgspec.DecodeError:
                continue
            metadata = revision.object.metadata
            if revision.kind == "Pod" and metadata.uid:
                found[metadata.uid] = _pod(metadata)
    return list(found.values())


def listed(objects: Iterable[dict[str, Any]]) -> list[Pod]:
    """Return the pods among raw objects."""
    pods = [item for item in objects if item.get("kind") == "Pod"]
    return [_pod(msgspec.convert(item["metadata"], _Metadata)) for item in pods]


def _pod(metadata: _Metadata) -> Pod:
    labels = metadata.labels
    service = labels.get("app") or labels.get("app.kubernetes.io/name") or _owner(metadata)
    return Pod(metadata.name, metadata.uid, service.replace("/", "_") or metadata.name)


def _owner(metadata: _Metadata) -> str:
    if not metadata.owner_references:
        return metadata.name
    owner = metadata.owner_references[0]
    if owner.kind == "ReplicaSet":  # a Deployment's, by convention <deployment>-<hash>
        return owner.name.rpartition("-")[0] or owner.name
    return owner.name
