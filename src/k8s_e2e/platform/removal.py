"""Taking out of somebody else's cluster what one run put in, and nothing else.

Nothing needs to be remembered: what the kit applied bears its label and the run. Order matters. Custom resources go
first, while their operator is there to let go of them; then the workloads that might make them anew; then the rest,
cluster-wide objects, and CRDs that the kit made. What says whose run it is, the namespace or the mark in it, goes last:
a removal that is cut, or leaves something, can be gone on with.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from k8s_e2e.base.errors import EnvironmentFailure, WaitTimeout
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.model.profile import Profile
from k8s_e2e.platform import adoption, crds, namespace
from k8s_e2e.platform.kube import ApiError, Kube, Resource
from k8s_e2e.platform.ownership import SELECTOR, run_of, title

CUSTOM_TIMEOUT_S = 60.0
OBJECTS_TIMEOUT_S = 60.0
CRD_TIMEOUT_S = 30.0
SERVED_TIMEOUT_S = 5.0  # until a CRD that has just been applied can be asked for its objects
LIST_TIMEOUT_S = 10.0
WORKERS = 16
_LOOK_S = 0.3
_TOLD = 5
_FORBIDDEN = (401, 403)
_NOT_LISTED = (404, 405)
_NOT_FOUND = 404
_NO_ANSWER = 0
_TOO_MANY = 429
_SERVER_ERRORS_FROM = 500
_MANY = 500  # objects that are looked at for the namespaces they are in
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet", "Pod")
_OWNED = {*_WORKLOADS, "Service", "ConfigMap", "Secret", "PersistentVolumeClaim", "Ingress"}
_PASSING = ("Event", "EndpointSlice", "Endpoints", "ControllerRevision")  # the cluster's own, and it tidies them up

Object = dict[str, Any]


def remove(kube: Kube, profile: Profile, run_id: str, progress: Progress) -> list[str]:
    """Remove everything of run ``run_id`` and return what could not be removed, a line each.

    Raises:
        ApiError: the API server refuses to say what there is, or does not answer.
    """
    return _Removal(kube, profile, run_id, progress).work()


class _Removal:
    """One removal: what its parts share."""

    def __init__(self, kube: Kube, profile: Profile, run_id: str, progress: Progress) -> None:
        self._kube = kube
        self._profile = profile
        self._space = profile.namespace
        self._run_id = run_id
        self._progress = progress
        self._left: dict[str, None] = {}
        self._served: list[Resource] = []

    def work(self) -> list[str]:
        self._served = self._kube.discover()
        here = namespace.run_in(self._kube, self._space) == self._run_id
        if not here:
            self._progress(f"nothing of run {self._run_id} is in namespace {self._space}")
        else:
            self._progress(f"removing what run {self._run_id} made in namespace {self._space}")
            self._remove_custom()
            self._remove_namespaced()
        self._remove_cluster_wide()
        self._remove_crds()
        if here and not self._left:
            self._remove_sign()
        return list(self._left)

    # custom resources

    def _remove_custom(self) -> None:
        """Remove all custom resources; if there were any, also what would make them anew, and those that it made."""
        if not self._custom_gone():
            return
        operator = self._operator()
        if operator is None:
            return
        others = [obj for obj in self._of_run() if obj["kind"] in _WORKLOADS and obj["metadata"]["uid"] != operator]
        self._delete_and_wait(others, OBJECTS_TIMEOUT_S)
        self._custom_gone()

    def _custom_gone(self) -> bool:
        """Delete every custom resource of the namespace and wait; returns whether there were any.

        Of a cluster-scoped kind only those that bear the run: the others are of everybody in the cluster.
        """
        namespaced = {(one.group, one.kind) for one in self._served if one.namespaced}
        found = [
            item
            for custom in self._profile.custom_resources
            for item in self._listed(custom.api_version, custom.kind, self._space)
            if (custom.group, custom.kind) in namespaced or run_of(item) == self._run_id
        ]
        self._delete_and_wait(found, CUSTOM_TIMEOUT_S)
        return bool(found)

    def _operator(self) -> str | None:
        """Return the uid of the workload behind the operator's Service."""
        source = self._profile.operator
        service = self._kube.get("v1", "Service", source.service, self._space) if source else None
        selector = ((service or {}).get("spec") or {}).get("selector")
        if not selector:
            return None
        for obj in self._of_run():
            template = (obj.get("spec") or {}).get("template") or {}
            labels = (template.get("metadata") or {}).get("labels") or {}
            if obj["kind"] in _WORKLOADS and selector.items() <= labels.items():
                return str(obj["metadata"]["uid"])
        return None

    # what bears our label

    def _remove_namespaced(self) -> None:
        """Remove what is in the namespace; of one that the kit made only what runs: the rest goes with it."""
        if self._made():
            namespace.empty(self._kube, self._space)
            return
        rest = [obj for obj in self._of_run() if obj["metadata"]["name"] != adoption.MARKER]
        self._delete_and_wait(rest, OBJECTS_TIMEOUT_S)

    def _made(self) -> Object | None:
        """Return the namespace if it was made for this run."""
        try:
            found = self._kube.get("v1", "Namespace", self._space)
        except ApiError as error:
            if error.status not in _FORBIDDEN:
                raise
            return None  # as `namespace.run_in` takes it
        return found if found and run_of(found) == self._run_id else None

    def _remove_sign(self) -> None:
        """Remove what says whose run it is: the namespace if the kit made it, else the mark in it."""
        if made := self._made():
            try:
                namespace.delete(self._kube, made, self._progress, namespace.GONE_TIMEOUT_S)
            except (ApiError, EnvironmentFailure) as error:
                self._left[f"Namespace/{self._space}: {error}"] = None
            return
        sign = adoption.marker(self._kube, self._space)
        if sign and run_of(sign) == self._run_id:
            self._tell_strangers(str(sign["metadata"]["creationTimestamp"]))
            self._delete(sign)

    def _of_run(self) -> list[Object]:
        """Return what bears the run in our namespace, of every kind that may be listed."""
        return [obj for obj in self._everything(self._space, SELECTOR) if run_of(obj) == self._run_id]

    def _remove_cluster_wide(self) -> None:
        found = [
            obj
            for obj in self._everything("", SELECTOR)
            if run_of(obj) == self._run_id and obj["kind"] not in ("Namespace", crds.KIND)
        ]
        self._delete_and_wait(found, OBJECTS_TIMEOUT_S)

    def _remove_crds(self) -> None:
        """Remove the run's CRDs, but none that has objects, or may have: they would go, too."""
        for crd in self._listed(crds.API_VERSION, crds.KIND, "", SELECTOR):
            if run_of(crd) != self._run_id:
                continue
            kind = crd["spec"]["names"]["kind"]
            try:
                spaces = {item["metadata"].get("namespace", "") for item in self._instances(crd)}
            except (ApiError, WaitTimeout) as error:
                self._left[f"{title(crd)}: whether {kind}s are left anywhere cannot be seen: {error}"] = None
                continue
            where = ", ".join(sorted(space or "the cluster" for space in spaces))
            if not spaces:
                self._delete_and_wait([crd], CRD_TIMEOUT_S)
            elif spaces == {self._space}:
                self._left[f"{title(crd)}: {kind}s are left in {where}"] = None
            else:
                self._progress(f"CRD {crd['metadata']['name']} stays: {kind}s are left in {where}")

    def _instances(self, crd: Object) -> list[Object]:
        """Return objects of a CRD in the whole cluster, by a version that the CRD itself says it serves.

        Raises:
            WaitTimeout: it serves none, or does not answer for it.
            ApiError: refused.
        """
        spec = crd["spec"]
        served = [version["name"] for version in spec["versions"] if version.get("served")]
        plural = spec["names"]["plural"]

        def probe() -> Pending | list[Object]:
            if not served:
                return Pending("no version is served")
            path = f"/apis/{spec['group']}/{served[0]}/{plural}"
            try:
                found = self._kube.request("GET", path, query={"limit": _MANY}, timeout_s=LIST_TIMEOUT_S)
            except ApiError as error:
                if error.status == _NOT_FOUND or _passes(error):
                    return Pending(str(error))
                raise
            return list(found.get("items") or ())

        return wait_for(f"the list of {plural}", probe, timeout_s=SERVED_TIMEOUT_S, interval_s=_LOOK_S)

    def _tell_strangers(self, since: str) -> None:
        """Say what came into the namespace during the run, and neither bears our label nor has gone with it."""
        strangers = [
            title(obj)
            for obj in self._everything(self._space)
            if obj["metadata"].get("creationTimestamp", "") >= since
            and obj["kind"] not in _PASSING
            and obj["metadata"]["name"] != adoption.MARKER
            and "deletionTimestamp" not in obj["metadata"]
        ]
        if strangers:
            self._progress(f"not made by the kit, and left in namespace {self._space}: {', '.join(sorted(strangers))}")

    # deleting and waiting

    def _delete_and_wait(self, objects: Iterable[Object], timeout_s: float) -> None:
        """Delete objects and wait until they, and all that hangs on them by its owners, are gone; note who stays."""
        known = self._everything(self._space, only=_OWNED)  # now: an owner may be gone before what it owns
        going = [obj for obj in objects if self._delete(obj)]
        doomed = {obj["metadata"]["uid"] for obj in going}
        _grow(doomed, known)
        kinds = {(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", "")) for obj in going}
        still: dict[str, Object] = {obj["metadata"]["uid"]: obj for obj in going}

        def probe() -> Pending | bool:
            try:
                owned = self._everything(self._space, only=_OWNED)
                here = [*(obj for kind in sorted(kinds) for obj in self._listed(*kind)), *owned]
            except ApiError as error:
                if _passes(error):
                    return Pending(str(error))
                raise
            _grow(doomed, owned)
            still.clear()
            still.update({obj["metadata"]["uid"]: obj for obj in here if obj["metadata"]["uid"] in doomed})
            return not still or Pending(_names(list(still.values())))

        if not going:
            return
        try:
            wait_for("them to be gone", probe, timeout_s=timeout_s, interval_s=_LOOK_S, on_state=self._waiting)
        except WaitTimeout as timeout:
            seen = timeout.last == _names(list(still.values()))
            why = f"still there after {timeout_s:g} s" if seen else f"not seen to go: {timeout.last}"
            for obj in still.values():
                self._left[f"{_state(obj)}: {why}"] = None

    def _delete(self, obj: Mapping[str, Any]) -> bool:
        """Delete one object; what is refused is noted."""
        metadata = obj["metadata"]
        try:
            self._kube.delete(
                obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace", ""), uid=metadata["uid"]
            )
        except ApiError as error:
            self._left[f"{title(obj)}: {error}"] = None
            return False
        return True

    def _waiting(self, state: str) -> None:
        self._progress(f"waiting until they are gone: {state}")

    # listing

    def _everything(self, space: str, selector: str = "", *, only: set[str] | None = None) -> list[Object]:
        """List every kind of the namespace, or (no ``space``) every cluster-scoped one, that may be listed."""
        kinds: dict[tuple[str, str], Resource] = {}
        for resource in self._served:
            if resource.namespaced == bool(space) and {"list", "delete"} <= set(resource.verbs):
                kinds.setdefault((resource.group, resource.plural), resource)
        wanted = [resource for resource in kinds.values() if only is None or resource.kind in only]
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="list")
        try:
            lists = pool.map(lambda one: self._listed(one.api_version, one.kind, space, selector), wanted)
            return [obj for found in lists for obj in found]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error, or Ctrl-C, nobody waits for the rest

    def _listed(self, api_version: str, kind: str, space: str, selector: str = "") -> list[Object]:
        """List one kind; one that may not be listed has nothing of ours: applying it was refused."""
        try:
            found: list[Object] = self._kube.list(
                api_version, kind, space, selector=selector, timeout_s=LIST_TIMEOUT_S
            )["items"]
        except ApiError as error:
            if error.status not in (*_FORBIDDEN, *_NOT_LISTED):
                raise
            return []
        return found


def _passes(error: ApiError) -> bool:
    """Whether the server may answer when it is asked again."""
    return error.status in (_NO_ANSWER, _TOO_MANY) or error.status >= _SERVER_ERRORS_FROM


def _owners(obj: Mapping[str, Any]) -> set[str]:
    return {reference.get("uid", "") for reference in obj["metadata"].get("ownerReferences") or ()}


def _grow(doomed: set[str], objects: Iterable[Object]) -> None:
    """Add to the uids in ``doomed`` those of ``objects`` that hang on one of them, directly or not."""
    rest = list(objects)
    while fresh := {obj["metadata"]["uid"] for obj in rest if _owners(obj) & doomed} - doomed:
        doomed |= fresh


def _names(objects: list[Object]) -> str:
    more = f" and {len(objects) - _TOLD} more" if len(objects) > _TOLD else ""
    return ", ".join(map(_state, objects[:_TOLD])) + more


def _state(obj: Mapping[str, Any]) -> str:
    held = obj["metadata"].get("finalizers")
    return title(obj) + (f" (held by {', '.join(held)})" if held else "")
