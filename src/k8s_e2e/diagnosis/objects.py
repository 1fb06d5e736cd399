"""The object graph of a run: every object ever seen, deleted ones too, with its owners and what selects it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from k8s_e2e.base import clock
from k8s_e2e.diagnosis.observed import Observed

_BUILT_IN = frozenset(
    f"{group}.k8s.io"
    for group in (
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "authentication",
        "authorization",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "internal.apiserver",
        "metrics",
        "networking",
        "node",
        "rbac.authorization",
        "resource",
        "scheduling",
        "storage",
        "storagemigration",
    )
)
_MANY = 20  # an owner chain longer than this is a cycle or nonsense


class Revision(NamedTuple):
    """One state of an object; ``pointer`` is where it stands, ``seen`` when it was seen (RFC 3339, may be empty)."""

    pointer: str
    seen: str
    change: str
    object: dict[str, Any]


@dataclass
class Tracked:
    """One object over its whole life. ``deleted`` is when it was gone, empty while it was still there."""

    uid: str
    kind: str
    name: str
    api_version: str
    revisions: list[Revision] = field(default_factory=list)
    deleted: str = ""

    @property
    def ref(self) -> str:
        """``Kind/name``."""
        return f"{self.kind}/{self.name}"

    @property
    def custom(self) -> bool:
        """Whether Kubernetes itself does not bring its kind; `.x-k8s.io` groups are custom, too."""
        group = self.api_version.rpartition("/")[0]
        return "." in group and group not in _BUILT_IN

    @property
    def last(self) -> dict[str, Any]:
        """The last full state seen, `{}` if there never was one."""
        return next((revision.object for revision in reversed(self.revisions) if revision.object), {})

    @property
    def pointer(self) -> str:
        """Evidence pointer of the last full state."""
        return next((revision.pointer for revision in reversed(self.revisions) if revision.object), "")

    @property
    def created(self) -> str:
        """``metadata.creationTimestamp`` if known, else when it was first seen."""
        made = stamp(mapping(self.last, "metadata").get("creationTimestamp"))
        return made or (self.revisions[0].seen if self.revisions else "")


class Objects:
    """All objects of a run, from the recorder's history and the final state."""

    def __init__(self, observed: Observed) -> None:
        self._by_uid: dict[str, Tracked] = {}
        self._children: dict[str, list[str]] = {}
        self._of: dict[tuple[str, ...], list[Tracked]] = {}  # nothing changes after this method
        self._selected: dict[str, list[Tracked]] = {}
        for line, revision in observed.history:
            tracked = self._track(revision.uid, revision.kind, revision.name, revision.api_version)
            pointer = f"k8s/history.jsonl#L{line}"
            tracked.revisions.append(Revision(pointer, revision.seen, revision.change, revision.object))
            tracked.deleted = revision.seen if revision.change == "DELETED" else ""
        for item in observed.resources:
            meta = mapping(item, "metadata")
            kind, name = str(item.get("kind", "")), str(meta.get("name", ""))
            tracked = self._track(str(meta.get("uid", "")), kind, name, str(item.get("apiVersion", "")))
            known = mapping(tracked.last, "metadata").get("resourceVersion")
            if not tracked.revisions or known != meta.get("resourceVersion"):
                pointer = f"k8s/resources.json#{kind}/{name}"
                tracked.revisions.append(Revision(pointer, observed.manifest.sealed, "MODIFIED", item))
                tracked.deleted = ""
        for tracked in self._by_uid.values():
            for owner in _owner_references(tracked.last):
                self._children.setdefault(str(owner.get("uid", "")), []).append(tracked.uid)

    def __len__(self) -> int:
        return len(self._by_uid)

    def of(self, *kinds: str) -> list[Tracked]:
        """Return the objects of these kinds (all without any), by creation, then name."""
        if kinds not in self._of:
            chosen = [tracked for tracked in self._by_uid.values() if not kinds or tracked.kind in kinds]
            chosen.sort(key=lambda tracked: (tracked.created, tracked.kind, tracked.name, tracked.uid))
            self._of[kinds] = chosen
        return self._of[kinds]

    def find(self, kind: str, name: str) -> Tracked | None:
        """Return the newest object of that kind and name."""
        named = [tracked for tracked in self.of(kind) if tracked.name == name]
        return named[-1] if named else None

    def owner(self, tracked: Tracked) -> Tracked | None:
        """Return the controller of ``tracked``, or its first owner that was seen."""
        references = sorted(_owner_references(tracked.last), key=lambda owner: not owner.get("controller"))
        known = (self._by_uid.get(str(owner.get("uid", ""))) for owner in references)
        return next((owner for owner in known if owner is not None), None)

    def owners(self, tracked: Tracked) -> list[Tracked]:
        """Return the owner chain of ``tracked``, nearest first."""
        chain: list[Tracked] = []
        above = self.owner(tracked)
        while above is not None and above not in chain and len(chain) < _MANY:
            chain.append(above)
            above = self.owner(above)
        return chain

    def descendants(self, tracked: Tracked) -> list[Tracked]:
        """Return everything owned by ``tracked``, directly or not."""
        found: dict[str, Tracked] = {}
        todo = [tracked.uid]
        while todo:
            for uid in self._children.get(todo.pop(), []):
                if uid not in found:
                    found[uid] = self._by_uid[uid]
                    todo.append(uid)
        return list(found.values())

    def selected(self, service: Tracked) -> list[Tracked]:
        """Return the pods whose labels ``service`` selects."""
        if service.uid not in self._selected:
            wanted = mapping(service.last, "spec", "selector").items()
            pods = self.of("Pod") if wanted else []
            chosen = [pod for pod in pods if wanted <= mapping(pod.last, "metadata", "labels").items()]
            self._selected[service.uid] = chosen
        return self._selected[service.uid]

    def _track(self, uid: str, kind: str, name: str, api_version: str) -> Tracked:
        key = uid or f"{kind}/{name}"
        return self._by_uid.setdefault(key, Tracked(key, kind, name, api_version))


def mapping(value: Any, *keys: str) -> dict[str, Any]:
    """Return the mapping under ``keys``, `{}` where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def listing(value: Any, *keys: str) -> list[dict[str, Any]]:
    """Return the mappings of the list under ``keys``, `[]` where there is none."""
    parent = mapping(value, *keys[:-1])
    items = parent.get(keys[-1])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def stamp(value: Any) -> str:
    """Return a time of Kubernetes in the kit's own form, so that times compare as text; empty where it is none."""
    try:
        return clock.normal(value) if isinstance(value, str) else ""
    except ValueError:
        return ""


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the condition of that type in ``status.conditions``, `{}` without one."""
    return next((entry for entry in listing(obj, "status", "conditions") if entry.get("type") == kind), {})


def _owner_references(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return listing(obj, "metadata", "ownerReferences")
