"""The objects of the fake API server: versions, generations, preconditions, field owners, deletion, history.

It behaves as the real one in what the operator relies on, and `test_apiserver_contract.py` holds both to the same
sentences. It knows five kinds in one namespace. In place of the controllers it makes every Deployment available at
once and collects the children of graphs that are gone.
"""

import base64
import copy
import json
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_fields
import yaml

from turbo_operator.kube.client import RESOURCES

Object = dict[str, Any]
Event = tuple[int, str, Object]
"""(version, ADDED | MODIFIED | DELETED, object)"""

_CRD = Path(__file__).parents[2] / "infra" / "k8s" / "base" / "apigraph-crd.yaml"
_WITH_GENERATION = {"APIGraph", "Deployment"}
_KEPT_BY_SERVER = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "namespace", "name")
_FIRST_VERSION = 100
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


class Problem(Exception):
    """An answer other than success, as a Status object."""

    def __init__(self, status: int, reason: str, message: str, *causes: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        listed = [{"reason": "FieldValueInvalid", "message": message, "field": field} for field in causes]
        self.document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": {**details, **({"causes": listed} if listed else {})},
            "code": status,
        }


def gone(asked: int, oldest: int) -> Problem:
    """A version that is no longer known."""
    return Problem(410, "Expired", f"too old resource version: {asked} ({oldest})")


class Objects:
    """All objects. Thread-safe."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.changed = threading.Condition(threading.RLock())
        self.version = _FIRST_VERSION
        self.oldest = _FIRST_VERSION
        """Watches and continued lists from an older version get 410."""
        self.controllers = True
        self._objects: dict[tuple[str, str], Object] = {}
        self._history: list[tuple[str, Event]] = []
        crd = yaml.safe_load(_CRD.read_text())
        self._schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object:
        """An object."""
        with self.changed:
            if (kind, name) not in self._objects:
                plural = RESOURCES[kind][2]
                raise Problem(404, "NotFound", f'{plural} "{name}" not found', name=name, kind=plural)
            return copy.deepcopy(self._objects[kind, name])

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind, by name."""
        with self.changed:
            return [copy.deepcopy(obj) for key, obj in sorted(self._objects.items()) if key[0] == kind]

    def page(self, kind: str, limit: int, token: str) -> Object:
        """One page of a list; every page of a list shows the state at its first one."""
        with self.changed:
            at, start = json.loads(base64.b64decode(token)) if token else (self.version, "")
            if at < self.oldest:
                raise Problem(410, "Expired", "The provided continue parameter is too old")
            found = [obj for name, obj in sorted(self._at(kind, at).items()) if name >= start]
            shown, more = (found[:limit], found[limit:]) if limit else (found, [])
            metadata: Object = {"resourceVersion": str(at)}
            if more:
                metadata["continue"] = base64.b64encode(json.dumps([at, more[0]["metadata"]["name"]]).encode()).decode()
                metadata["remainingItemCount"] = len(more)
            items = copy.deepcopy(shown)
        if kind != "APIGraph":
            items = [{key: part for key, part in item.items() if key not in {"kind", "apiVersion"}} for item in items]
        return {"kind": f"{kind}List", "apiVersion": RESOURCES[kind][0], "metadata": metadata, "items": items}

    def _at(self, kind: str, version: int) -> dict[str, Object]:
        state: dict[str, Object] = {}
        for of_kind, (at, what, obj) in self._history:
            if of_kind == kind and at <= version:
                state[obj["metadata"]["name"]] = obj
                if what == "DELETED":
                    del state[obj["metadata"]["name"]]
        return state

    def events(self, kind: str, since: int) -> list[Event]:
        """What happened to a kind after a version."""
        with self.changed:
            if since < self.oldest:
                raise gone(since, self.oldest)
            found: list[Event] = []
            for of_kind, event in reversed(self._history):
                if event[0] <= since:
                    break
                if of_kind == kind:
                    found.append(copy.deepcopy(event))
            return found[::-1]

    def compact(self) -> None:
        """Forget the past: whoever did not see it has to list."""
        with self.changed:
            self.version += 1
            self.oldest = self.version

    # -- writing ------------------------------------------------------------------------------------------------

    def create(self, kind: str, body: Mapping[str, Any], manager: str, *, strict: bool) -> Object:
        """POST."""
        with self.changed:
            name = body["metadata"]["name"]
            if (kind, name) in self._objects:
                raise Problem(409, "AlreadyExists", f'{RESOURCES[kind][2]} "{name}" already exists', name=name)
            new = copy.deepcopy(dict(body))
            new.pop("status", None)
            return self._update(kind, None, new, (manager, "Update", ""), strict=strict)

    def patch(self, kind: str, name: str, patch: Any, manager: str, *, strict: bool) -> Object:
        """PATCH: a list is a JSON patch, an object a merge patch."""
        with self.changed:
            live = self.get(kind, name)
            new = _json_patch(live, patch) if isinstance(patch, list) else _merge_patch(live, patch)
            return self._update(kind, live, new, (manager, "Update", ""), strict=strict)

    def apply(
        self, kind: str, name: str, body: Mapping[str, Any], manager: str, *, force: bool, status: bool = False
    ) -> Object:
        """Server-side apply of an object, or of its status."""
        with self.changed:
            live = self._objects.get((kind, name))
            asked = body["metadata"]
            if live is None:
                if status:
                    self.get(kind, name)
                if asked.get("uid"):
                    text = f"the provided object specified uid {asked['uid']}, and no existing object was found"
                    raise Problem(409, "Conflict", f"uid mismatch: {text}", name=name)
            elif asked.get("resourceVersion") not in {None, live["metadata"]["resourceVersion"]}:
                raise Problem(
                    409, "Conflict", "the object has been modified; please apply your changes to it", name=name
                )
            elif not status and asked.get("uid") not in {None, live["metadata"]["uid"]}:
                raise self._other_uid(kind, name, str(asked["uid"]), live["metadata"]["uid"])
            left_out = {"metadata", "spec"} if status else {"status"}
            part = {key: value for key, value in body.items() if key not in left_out}
            key = (manager, "Apply", "status" if status else "")
            start: Object = live or {
                "apiVersion": RESOURCES[kind][0],
                "kind": kind,
                "metadata": {"name": name},
            }
            owners = fake_fields.Owners(start)
            found = fake_fields.conflicts(
                owners, key, fake_fields.fields_of(kind, start), fake_fields.fields_of(kind, part)
            )
            if found and not force:
                raise Problem(409, "Conflict", f"Apply failed with {len(found)} conflicts", *map(str, found))
            new = fake_fields.apply(kind, start, part, owners, key)
            self._complete(kind, new, strict=True)
            return self._commit(kind, name, live, new, owners)

    def delete(self, kind: str, name: str, options: Mapping[str, Any]) -> Object:
        """DELETE; a Status, or what finalizers keep."""
        with self.changed:
            live = self.get(kind, name)
            metadata = live["metadata"]
            asked = (options.get("preconditions") or {}).get("uid")
            if asked not in {None, metadata["uid"]}:
                text = f"Precondition failed: UID in precondition: {asked}, UID in object meta: {metadata['uid']}"
                raise Problem(409, "Conflict", text, name=name)
            if metadata.get("finalizers"):
                new = copy.deepcopy(live)
                new["metadata"]["deletionTimestamp"] = metadata.get("deletionTimestamp") or _now()
                return self._commit(kind, name, live, new, fake_fields.Owners(live))
            self._drop(kind, name)
            self._control()
            return {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {"name": name, "kind": RESOURCES[kind][2], "uid": metadata["uid"]},
            }

    def _update(self, kind: str, live: Object | None, new: Object, key: Any, *, strict: bool) -> Object:
        name = new["metadata"]["name"]
        if live is not None:
            new["metadata"] |= {part: live["metadata"][part] for part in _KEPT_BY_SERVER if part in live["metadata"]}
            new["status"] = live.get("status")
            if new["status"] is None:
                del new["status"]
        self._complete(kind, new, strict=strict)
        owners = fake_fields.Owners(live or new)
        before = fake_fields.fields_of(kind, live) if live is not None else {}
        after = fake_fields.fields_of(kind, new)
        taken = {path for path, value in after.items() if path not in before or before[path] != value}
        owners.take(key, taken, before.keys() - after.keys())
        return self._commit(kind, name, live, new, owners)

    def _complete(self, kind: str, new: Object, *, strict: bool) -> None:
        """Defaults and validation."""
        if kind == "APIGraph":
            self._check(new, self._schema, "", strict=strict)
        elif kind == "Service":
            spec = new["spec"]
            spec.setdefault("clusterIP", "10.0.0.1")
            spec.setdefault("sessionAffinity", "None")
            for port in spec["ports"]:
                port.setdefault("protocol", "TCP")
        elif kind == "Deployment":
            spec = new["spec"]
            spec.setdefault("revisionHistoryLimit", 10)
            spec.setdefault("strategy", {"type": "RollingUpdate"}).setdefault(
                "rollingUpdate", {"maxSurge": "25%", "maxUnavailable": "25%"}
            )
            spec["template"]["spec"].setdefault("restartPolicy", "Always")
            for container in spec["template"]["spec"]["containers"]:
                container.setdefault("terminationMessagePath", "/dev/termination-log")

    def _check(self, value: Any, schema: Mapping[str, Any], where: str, *, strict: bool) -> None:
        """Unknown fields, missing ones, wrong types and defaults, by the CRD; its rules are not evaluated."""
        expected = _TYPES.get(schema.get("type", ""))
        if expected is not None and not isinstance(value, expected):
            raise Problem(422, "Invalid", f"{where}: Invalid value: must be of type {schema['type']}", where)
        if isinstance(value, int) and value < schema.get("minimum", value):
            raise Problem(422, "Invalid", f"{where}: Invalid value: {value}: too small", where)
        if isinstance(value, list):
            for n, item in enumerate(value):
                self._check(item, schema.get("items", {}), f"{where}[{n}]", strict=strict)
        elif isinstance(value, dict) and "properties" in schema:
            self._check_fields(value, schema, f"{where}." if where else "", strict=strict)

    def _check_fields(self, value: Object, schema: Mapping[str, Any], where: str, *, strict: bool) -> None:
        properties = schema["properties"]
        for key in schema.get("required", ()):
            if key not in value:
                raise Problem(422, "Invalid", f"{where}{key}: Required value", where + key)
        for key in [key for key in value if key not in properties]:
            if strict:
                raise Problem(400, "BadRequest", f'strict decoding error: unknown field "{where}{key}"')
            del value[key]
        for key, below in properties.items():
            if "default" in below:
                value.setdefault(key, below["default"])
            if key in value:
                self._check(value[key], below, where + key, strict=strict)

    def _other_uid(self, kind: str, name: str, asked: str, real: str) -> Problem:
        text = f'{kind} "{name}" is invalid: metadata.uid: Invalid value: "{asked}": field is immutable ({real})'
        return Problem(422, "Invalid", text, "metadata.uid", name=name)

    def _commit(self, kind: str, name: str, live: Object | None, new: Object, owners: fake_fields.Owners) -> Object:
        """Store a state if it differs; gives what is answered."""
        metadata = new["metadata"]
        metadata["managedFields"] = owners.entries(RESOURCES[kind][0], _now())
        if live is None:
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "namespace": self.namespace}
            if kind in _WITH_GENERATION:
                metadata["generation"] = 1
        elif new == live:
            return copy.deepcopy(live)
        elif kind in _WITH_GENERATION and _counted(new) != _counted(live):
            metadata["generation"] += 1
        if live is not None and metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._drop(kind, name)
        else:
            self._record("ADDED" if live is None else "MODIFIED", kind, new)
            self._objects[kind, name] = new
        answer = copy.deepcopy(new)
        self._control()
        return answer

    def _record(self, what: str, kind: str, obj: Object) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._history.append((kind, (self.version, what, copy.deepcopy(obj))))
        self.changed.notify_all()

    def _drop(self, kind: str, name: str) -> None:
        self._record("DELETED", kind, self._objects.pop((kind, name)))

    def _control(self) -> None:
        """What the garbage collector and the Deployment controller do."""
        if not self.controllers:
            return
        owners = {obj["metadata"]["uid"] for (kind, _), obj in self._objects.items() if kind == "APIGraph"}
        for (kind, name), obj in list(self._objects.items()):
            references = obj["metadata"].get("ownerReferences") or ()
            if references and not any(reference["uid"] in owners for reference in references):
                self._drop(kind, name)
            elif kind == "Deployment":
                generation, replicas = obj["metadata"]["generation"], obj["spec"].get("replicas", 1)
                if (obj.get("status") or {}).get("observedGeneration") != generation:
                    new = copy.deepcopy(obj)
                    annotations = new["metadata"].setdefault("annotations", {})
                    annotations["deployment.kubernetes.io/revision"] = str(generation)
                    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
                    new["status"] = {"observedGeneration": generation, **(counts if replicas else {})}
                    self._record("MODIFIED", kind, new)
                    self._objects[kind, name] = new


def _counted(obj: Object) -> Any:
    """What the generation counts the changes of; of a Deployment also its annotations."""
    annotations = obj["metadata"].get("annotations") if obj["kind"] == "Deployment" else None
    return obj.get("spec"), annotations


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value)
    return result


def _json_patch(target: Object, operations: list[Any]) -> Object:
    """RFC 6902: test, add, replace and remove of members of objects."""
    result = copy.deepcopy(target)
    for each in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in each["path"].split("/")[1:]]
        node = result
        for part in parents:
            node = node.get(part)  # type: ignore[assignment]
            if not isinstance(node, dict):
                raise Problem(422, "Invalid", f"the server rejected our request: {each['path']} is missing")
        if each["op"] == "test":
            if node.get(last) != each["value"]:
                raise Problem(422, "Invalid", f"the server rejected our request: test of {each['path']} failed")
        elif each["op"] == "remove":
            node.pop(last, None)
        else:
            node[last] = copy.deepcopy(each["value"])
    return result
