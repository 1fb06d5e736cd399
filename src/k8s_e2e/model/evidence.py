"""What recorder and collector write: manifest, operator actions, events, object history, traces."""

from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1


class SealedFile(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One sealed file: sha256 (hex), size, rows (lines or items, where that means something), what was cut."""

    path: str
    sha256: str
    bytes: int
    rows: int | None = None
    truncated: str = ""
    redactions: int = 0


class Part(msgspec.Struct, omit_defaults=True, kw_only=True):
    """How one part of the collection went."""

    name: str
    status: Literal["ok", "failed", "denied", "skipped"]
    duration_s: float
    rows: int | None = None
    error: str = ""


class Manifest(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`manifest.json`: the seal over everything observed."""

    schema_version: int = SCHEMA_VERSION
    run_id: str = ""
    sealed: str = ""
    files: list[SealedFile] = []
    parts: list[Part] = []
    redactions: dict[str, int] = {}


class Derived(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`derived.json`: files made from the sealed ones, with their sha256."""

    schema_version: int = SCHEMA_VERSION
    files: list[SealedFile] = []


class Action(msgspec.Struct, kw_only=True):
    """One action of an operator: a finished write, or one that it withheld; unique by (pod_uid, seq).

    Every row has every key: an empty or zero one was empty, or not told. Run directories of older kits lack such keys.
    """

    time: str
    action: str
    resource_kind: str
    resource_name: str
    environment_id: str = ""
    seq: int = 0
    pod_uid: str = ""
    pod: str = ""
    fields: list[str] = []
    reason: str = ""
    outcome: str = ""
    http_status: int = 0
    duration_ms: float = 0.0
    trace_id: str = ""
    span_id: str = ""
    source: Literal["log", "api"] = "log"


class Actions(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`k8s/operator-actions.json`; ``gaps`` names sequence numbers that nobody saw."""

    schema_version: int = SCHEMA_VERSION
    count: int = 0
    actions: list[Action] = []
    gaps: list[str] = []


class EventRevision(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One revision of one Event; ``time`` is eventTime, else series, else lastTimestamp; ``seen`` is ours."""

    time: str
    seen: str
    uid: str
    name: str
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 1
    kind: str = ""
    object: str = ""
    object_uid: str = ""
    source: str = ""
    resource_version: str = ""
    namespace: str = ""


class ObjectRevision(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One revision of one object, as the recorder saw it (secret values never)."""

    seen: str
    change: Literal["ADDED", "MODIFIED", "DELETED"]
    kind: str
    api_version: str
    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    object: dict[str, Any] = {}


class Census(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Whether the traces are complete: what was sent against what was found."""

    requested: int = 0  # distinct trace ids in requests.jsonl that should have spans
    found: int = 0
    missing: list[str] = []  # trace ids without any span
    services_missing: list[str] = []  # expected services that were asked, and have no span at all
    orphans: int = 0  # spans whose parent nobody reported
    polls: int = 0
    waited_s: float = 0.0
    stable: bool = False


class Traces(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`traces.json`: traces in Jaeger's JSON form (``traceID``, ``spans``, ``processes``; times in microseconds)."""

    schema_version: int = SCHEMA_VERSION
    captured_at: str = ""
    census: Census = msgspec.field(default_factory=Census)
    data: list[dict[str, Any]] = []
