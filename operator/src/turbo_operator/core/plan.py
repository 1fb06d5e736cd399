"""What has to be written to get from what is there to what is wanted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from turbo_operator.core import names
from turbo_operator.core.canonical import canonical_json
from turbo_operator.core.desired import Object, ObjectKey, Owner, key_of, object_keys, sort_key
from turbo_operator.core.fields import OWNED_FIELDS, differences, displaced
from turbo_operator.core.graph import Graph

Verb = Literal["Create", "Update", "Delete", "Conflict", "Refuse"]


@dataclass(frozen=True, slots=True)
class Action:
    """One write, or one that will not be made.

    Conflict: the name is taken by an object that is not ours. Refuse: the APIGraph of `kind` and `name` holds a
    component or another part that cannot be used, which the reason names.

    Attributes:
        fields: Paths of the fields an Update changes.
        body: The complete object of a Create or Update.
        uid: Precondition of an Update or Delete: the object it was planned for.
    """

    verb: Verb
    kind: str
    name: str
    component: str
    reason: str
    fields: tuple[str, ...] = ()
    body: Object | None = None
    uid: str | None = None

    @property
    def key(self) -> ObjectKey:
        """(kind, name) of the object."""
        return self.kind, self.name

    @property
    def writes(self) -> bool:
        """Whether the action is a request to the API server."""
        return self.verb in {"Create", "Update", "Delete"}


def plan(
    graph: Graph, wanted: tuple[Object, ...], observed: Mapping[ObjectKey, Object], owner: Owner
) -> tuple[Action, ...]:
    """The actions that make `observed` equal to `wanted`; none if it is.

    Order: refusals, then creates, updates and conflicts (ConfigMap, Service, Deployment, by name), then deletes in
    reverse order. Objects that are being deleted are waited for: no action. Of a component with a conflict nothing is
    created.

    Args:
        graph: Tells what is refused: objects of refused components are neither changed nor deleted.
        wanted: The result of `desired`, in its order.
        observed: Slim objects of the namespace: all whose names are wanted, and all that belong to the environment.
        owner: The APIGraph object, as it is now.
    """
    refusals = [
        Action("Refuse", names.GRAPH_KIND, owner.name, refused.name, f"{refused.package_name}: {refused.message}")
        for refused in graph.refused
    ]
    changes: list[Action] = []
    deletes: list[Action] = []
    for obj in wanted:
        action = _change(obj, observed.get(key_of(obj)), owner)
        if action is not None:
            (deletes if action.verb == "Delete" else changes).append(action)
    # A component is made whole or not at all: two environments that want its names never get half of them each.
    contested = {action.component for action in changes if action.verb == "Conflict"}
    changes = [action for action in changes if action.verb != "Create" or action.component not in contested]
    wanted_keys = {key_of(obj) for obj in wanted}
    kept = {key for refused in graph.refused for key in object_keys(refused.name)}
    for key, present in observed.items():
        if key in wanted_keys or key in kept or being_deleted(present) or not _made_for(present, owner):
            continue
        component = present["metadata"].get("labels", {}).get(names.LABEL_COMPONENT, "")
        deletes.append(Action("Delete", *key, component, "no longer in the graph", uid=present["metadata"]["uid"]))
    deletes.sort(key=lambda action: sort_key(action.key), reverse=True)
    return (*refusals, *changes, *deletes)


def _change(wanted: Object, present: Object | None, owner: Owner) -> Action | None:
    kind, name = key_of(wanted)
    component = wanted["metadata"]["labels"][names.LABEL_COMPONENT]
    if present is None:
        return Action("Create", kind, name, component, "missing", body=wanted)
    if being_deleted(present):
        return None
    if not belongs_to(present, owner):
        return Action("Conflict", kind, name, component, f"exists and belongs to {_holder(present)}")
    fields = differences(wanted, present)
    if not fields:
        return None
    uid = present["metadata"]["uid"]
    if why := _replacement(wanted, present, fields):
        return Action("Delete", kind, name, component, f"replaced: {why}", fields, uid=uid)
    return Action("Update", kind, name, component, _why(present, owner), fields, body=wanted, uid=uid)


def _why(present: Object, owner: Owner) -> str:
    holder = owner_uid(present)
    if holder is None:  # its graph was deleted with --cascade=orphan, or somebody took the reference away: both alike
        return "taken back: no APIGraph owned it"
    return "differs from the graph" if holder == owner.uid else "adopted from an earlier graph"


def owner_uid(obj: Mapping[str, Any]) -> str | None:
    """The uid of the APIGraph that owns an object, None without one."""
    reference = _graph_reference(obj)
    return None if reference is None else reference.get("uid")


def belongs_to(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether the operator may change an object for this graph.

    It may if the APIGraph owns it; or if it carries our labels of this environment and nobody else controls it: an
    object whose graph was deleted with `--cascade=orphan`, or replaced by one of the same name; or if the operator
    applied it and somebody stripped it of owner and labels.
    """
    metadata = obj["metadata"]
    controller = next((r for r in metadata.get("ownerReferences") or () if r.get("controller")), None)
    reference = _graph_reference(obj)
    if reference is not None and reference.get("uid") == owner.uid:
        return True
    if controller is not None and controller is not reference:
        return False
    if reference is not None and reference.get("name") != owner.name:
        return False
    labels = metadata.get("labels") or {}
    if names.LABEL_ENVIRONMENT not in labels:
        return reference is None and OWNED_FIELDS in metadata
    return labels.get(names.LABEL_MANAGED_BY) == names.MANAGER and labels.get(names.LABEL_ENVIRONMENT) == owner.name


def _made_for(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether an object nobody wants any more may be deleted: the operator wrote it, and it is the graph's.

    An owner alone is no proof: people own things by the graph, or copy its objects, to keep notes or a backup.
    """
    return OWNED_FIELDS in obj["metadata"] and belongs_to(obj, owner)


def being_deleted(obj: Mapping[str, Any]) -> bool:
    """Whether an object is on its way out."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def encode(actions: tuple[Action, ...]) -> bytes:
    """The plan as bytes: equal plans are equal bytes."""
    return canonical_json(
        [
            {
                "action": action.verb,
                "kind": action.kind,
                "name": action.name,
                "component": action.component,
                "reason": action.reason,
                "fields": list(action.fields),
                "body": action.body,
                "uid": action.uid,
            }
            for action in actions
        ]
    )


def _graph_reference(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    references: Iterable[Mapping[str, Any]] = obj["metadata"].get("ownerReferences") or ()
    for reference in references:
        if reference.get("kind") == names.GRAPH_KIND and reference.get("apiVersion") == names.GRAPH_API_VERSION:
            return reference
    return None


def _holder(obj: Mapping[str, Any]) -> str:
    """Who has a name that the graph wants, and how it can get it."""
    metadata = obj["metadata"]
    controller = next((r for r in metadata.get("ownerReferences") or () if r.get("controller")), None)
    environment = (metadata.get("labels") or {}).get(names.LABEL_ENVIRONMENT)
    if controller is not None:
        holder = f"{controller.get('kind')} {controller.get('name')}"
    else:
        holder = f"environment {environment}" if environment else f"nobody known to {names.MANAGER}"
    if environment if controller is None else controller.get("kind") == names.GRAPH_KIND:
        return f"{holder}: a package runs in one environment of a namespace only; once it is gone there, it runs here"
    return f"{holder}: once it is deleted, the component is made"


def _replacement(wanted: Object, present: Object, fields: tuple[str, ...]) -> str | None:
    """Why an apply cannot make an object what is wanted, so that it has to be replaced; None if it can."""
    if wanted["kind"] == "Deployment" and wanted["spec"]["selector"] != present.get("spec", {}).get("selector"):
        return "spec.selector cannot be changed"
    if (
        wanted["kind"] == "ConfigMap"
        and present.get("immutable")
        and any(f.partition(".")[0] == "data" for f in fields)
    ):
        return "data of an immutable ConfigMap cannot be changed"
    taken = displaced(wanted, present)
    return f"{taken} was rewritten by hand" if taken else None
