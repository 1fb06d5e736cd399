"""Writing what watchers see: every object revision to history.jsonl, every event revision to events.jsonl, once."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base import clock, files
from k8s_e2e.evidence import events, targets
from k8s_e2e.evidence.secrets import Cleaner
from k8s_e2e.model.evidence import EventRevision, ObjectRevision

Kind = tuple[str, str]  # apiVersion, kind


class _Key(msgspec.Struct):
    """The part of a line that says which revision of which object it is."""

    uid: str
    resource_version: str
    kind: str = ""
    name: str = ""
    api_version: str = ""
    namespace: str = ""
    change: str = ""


class History:
    """The two files of revisions. Thread-safe; a revision that is there already is not written again.

    A list and a watch may overtake each other: what is older than the newest revision seen of an object is left out,
    so that an old list neither brings back what was deleted after it nor deletes what was made after it.

    ``on_pod`` hears every pod revision, before it is cleaned.
    """

    def __init__(
        self,
        history: Path,
        event_file: Path,
        cleaner: Cleaner,
        *,
        note: Callable[..., None],
        on_pod: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._known: dict[Kind, dict[str, _Key]] = {}
        self._events: dict[str, str] = {}  # uid -> resource version
        self._newest: dict[str, str] = {}  # uid -> resource version, of all objects ever seen, the deleted ones, too
        self._lock = threading.Lock()
        self._cleaner = cleaner
        self._on_pod = on_pod
        self._note = note
        self.rows = 0
        self._resume(history, event_file)
        self._history = files.Lines(history)
        self._event_lines = files.Lines(event_file)

    def note(self, event: str, **fields: Any) -> None:
        """Hand a diagnostic on."""
        self._note(event, **fields)

    def replace(self, kind: Kind, items: list[dict[str, Any]], version: str = "") -> None:
        """Take a whole list of one kind, as of ``version``: new revisions are written, what has gone as deleted."""
        present = set()
        for item in items:
            present.add(item["metadata"].get("uid", ""))
            self.change(kind, "", item)
        if kind == targets.EVENTS:
            return
        with self._lock:
            for uid, key in list(self._known.get(kind, {}).items()):
                if uid in present or _older(version, key.resource_version):
                    continue
                self._write(kind, "DELETED", key, {})
                self._newest[uid] = version or key.resource_version
                del self._known[kind][uid]

    def change(self, kind: Kind, change: str, obj: dict[str, Any]) -> None:
        """Take one revision; an empty ``change`` is worked out from what is known."""
        metadata = obj.get("metadata") or {}
        uid, version = metadata.get("uid", ""), metadata.get("resourceVersion", "")
        if kind == targets.EVENTS:
            self._event(change, obj, uid, version)
            return
        if kind == targets.PODS and self._on_pod and change != "DELETED":
            self._on_pod(obj)
        with self._lock:
            known = self._known.setdefault(kind, {})
            before = known.get(uid)
            if change != "DELETED" and before and before.resource_version == version:
                return
            if (change == "DELETED" and not before) or _older(version, self._newest.get(uid, "")):
                return
            _shorten(metadata)
            self._newest[uid] = version
            key = _Key(uid, version, kind[1], metadata.get("name", ""), kind[0], metadata.get("namespace", ""))
            if change != "DELETED":
                change = "MODIFIED" if before else "ADDED"
            self._write(kind, change, key, self._cleaner.clean(obj))
            if change == "DELETED":  # known is what has been written: what failed is written with the next list
                known.pop(uid, None)
            else:
                known[uid] = key

    def has_seen(self, uid: str) -> bool:
        """Tell whether an object of this uid has ever been seen, by an earlier recorder of this run, too."""
        return uid in self._newest

    def close(self) -> None:
        """Close both files."""
        self._history.close()
        self._event_lines.close()

    def _event(self, change: str, obj: dict[str, Any], uid: str, version: str) -> None:
        if change == "DELETED":  # they expire; that says nothing
            return
        with self._lock:
            if self._events.get(uid) == version or _older(version, self._events.get(uid, "")):
                return
            revision = events.revision(obj, seen=clock.now())
            revision.message = self._cleaner.redactor.text(revision.message)
            self._event_lines.append(revision)
            self._events[uid] = version
            self.rows += 1

    def _write(self, kind: Kind, change: Any, key: _Key, obj: dict[str, Any]) -> None:
        self._history.append(
            ObjectRevision(
                seen=clock.now(),
                change=change,
                kind=kind[1],
                api_version=kind[0],
                name=key.name,
                uid=key.uid,
                resource_version=key.resource_version,
                namespace=key.namespace,
                object=obj,
            )
        )
        self.rows += 1

    def _resume(self, history: Path, event_file: Path) -> None:
        """Learn what an earlier recorder has written."""
        for key in _keys(history):
            self._newest[key.uid] = key.resource_version
            known = self._known.setdefault((key.api_version, key.kind), {})
            if key.change == "DELETED":
                known.pop(key.uid, None)
            else:
                known[key.uid] = key
        self._events = {key.uid: key.resource_version for key in _keys(event_file)}


def _older(version: str, than: str) -> bool:
    """Compare resource versions: they are numbers that grow; of what is no number nothing is known."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)


def _shorten(metadata: dict[str, Any]) -> None:
    """Keep of managedFields who wrote and when; which fields each owns stands in resources.json."""
    for entry in metadata.get("managedFields") or []:
        entry.pop("fieldsV1", None)
        entry.pop("fieldsType", None)


def _keys(path: Path) -> list[_Key]:
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(_Key)
    found = []
    raw = path.read_bytes()
    if raw and not raw.endswith(b"\n"):  # cut in the middle of a line: what follows must not continue it
        with path.open("ab") as stream:
            stream.write(b"\n")
    for line in raw.splitlines():
        try:
            found.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return found


def event_revisions(path: Path) -> list[EventRevision]:
    """Read events.jsonl; an absent file is an empty list."""
    return events.decode(path.read_bytes().splitlines()) if path.exists() else []


def last_states(path: Path, group: str, kind: str) -> dict[str, ObjectRevision]:
    """Return the last revision with an object of each object of a kind in history.jsonl, by uid, oldest first."""
    found: dict[str, ObjectRevision] = {}
    if not path.exists():
        return found
    mark = f'"kind":"{kind}"'.encode()
    decoder = msgspec.json.Decoder(ObjectRevision)
    for line in path.read_bytes().splitlines():
        if mark not in line:
            continue
        try:
            revision = decoder.decode(line)
        except msgspec.DecodeError:
            continue
        if revision.kind == kind and revision.api_version.partition("/")[0] == group and revision.object:
            revision.object.get("metadata", {}).pop("managedFields", None)
            found[revision.uid] = revision
    return found
