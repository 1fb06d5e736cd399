"""Before anything is applied to somebody else's cluster: what is there, what is allowed, where the run may live."""

from collections.abc import Iterable, Sequence
from typing import Any

from k8s_e2e.base.errors import EnvironmentFailure
from k8s_e2e.base.progress import Progress
from k8s_e2e.cluster.provider import Cluster
from k8s_e2e.model.profile import Profile
from k8s_e2e.platform import adoption, crds, namespace, permissions, removal
from k8s_e2e.platform.kube import ApiError, Kube
from k8s_e2e.platform.ownership import is_ours
from k8s_e2e.platform.permissions import Access, Kind
from k8s_e2e.scenarios.accesses import needs
from k8s_e2e.scenarios.loader import Scenario

_FORBIDDEN = (401, 403)
_ROLES = ("Role", "ClusterRole")
_BINDINGS = ("RoleBinding", "ClusterRoleBinding")
_PRINT = "`k8s-e2e {command}` prints the Role that grants them"
_DEFAULT_ACCOUNT = "k8s-e2e"

Object = dict[str, Any]


def prepare(
    kube: Kube,
    profile: Profile,
    objects: Iterable[Object],
    run_id: str,
    scenarios: Sequence[Scenario],
    progress: Progress,
) -> list[Object]:
    """Make, or take, the run's namespace and return those of ``objects`` that are left to be applied.

    Raises:
        EnvironmentFailure: permissions are missing (all of them), something of somebody else's is in the way, or the
            API server does not answer; nothing has been applied.
    """
    try:
        return _prepare(kube, profile, objects, run_id, scenarios, progress)
    except ApiError as error:
        message = f"cannot find out what is in the cluster: {error}"
        raise EnvironmentFailure(message) from error


def _prepare(
    kube: Kube,
    profile: Profile,
    objects: Iterable[Object],
    run_id: str,
    scenarios: Sequence[Scenario],
    progress: Progress,
) -> list[Object]:
    objects = list(objects)
    refuse_outside(profile.namespace, objects)
    settled = crds.settle(kube, objects)
    for remark in settled.remarks:
        progress(remark)
    adopts = _is_foreign(kube, profile.namespace)
    wanted = [obj for obj in settled.objects if not (adopts and _is_namespace(obj, profile.namespace))]
    _check(kube, profile, wanted, run_id, scenarios, progress, adopts=adopts)
    if not adopts:
        adoption.refuse_occupied(kube, profile.namespace, wanted)
        namespace.claim(kube, profile.namespace, run_id, progress)
        return wanted
    _check_grants(kube, profile.namespace, wanted)
    if earlier := namespace.run_in(kube, profile.namespace):
        progress(f"namespace {profile.namespace} has what run {earlier} left")
        if left := removal.remove(kube, profile, earlier, progress):
            message = f"what run {earlier} left in namespace {profile.namespace} cannot be removed: {'; '.join(left)}"
            raise EnvironmentFailure(message)
    adoption.adopt(kube, profile.namespace, run_id, wanted, profile.custom_resources, progress)
    return wanted


def refuse_outside(namespace: str, objects: Iterable[Object]) -> None:
    """Refuse what is not in the run's namespace, and Namespaces beside it: nothing would remove them.

    Raises:
        EnvironmentFailure: there are such objects (which, and where).
    """
    others = []
    for obj in objects:
        name, space = obj["metadata"]["name"], obj["metadata"].get("namespace") or namespace
        if obj["kind"] == "Namespace" and name != namespace:
            others.append(f"Namespace/{name}")
        elif space != namespace:
            others.append(f"{obj['kind']}/{name} in namespace {space}")
    if others:
        message = f"the overlay has objects outside of namespace {namespace}: {', '.join(others)}"
        hint = "somebody else's cluster gets no others: leave them out, or put them into the profile's namespace"
        raise EnvironmentFailure(message, hint=hint)


def clear(cluster: Cluster, profile: Profile, run_id: str, progress: Progress) -> list[str]:
    """Remove what a run made (no ``run_id``: whichever is, or left something, in the namespace); return what stays.

    Raises:
        EnvironmentFailure: the API server does not answer, or does not say what there is.
    """
    try:
        with Kube.connect(cluster.kubeconfig, cluster.context) as kube:
            run = run_id or namespace.run_in(kube, profile.namespace)
            if not run:
                progress(f"no run has left anything in namespace {profile.namespace} of cluster {cluster.name}")
                return []
            return removal.remove(kube, profile, run, progress)
    except ApiError as error:
        message = f"what the run made in cluster {cluster.name} cannot be removed: {error}"
        raise EnvironmentFailure(message) from error


def _is_foreign(kube: Kube, name: str) -> bool:
    """Whether the namespace is there and not ours; one that may not be looked at is taken for that."""
    try:
        found = kube.get("v1", "Namespace", name)
    except ApiError as error:
        if error.status in _FORBIDDEN:
            return True
        raise
    return found is not None and not is_ours(found) and "deletionTimestamp" not in found["metadata"]


def _is_namespace(obj: Object, name: str) -> bool:
    return bool(obj["kind"] == "Namespace" and obj["metadata"]["name"] == name)


def _check(
    kube: Kube,
    profile: Profile,
    objects: list[Object],
    run_id: str,
    scenarios: Sequence[Scenario],
    progress: Progress,
    *,
    adopts: bool,
) -> None:
    served = permissions.known_kinds(objects, profile) | {
        (one.api_version, one.kind): Kind(one.group, one.plural, one.namespaced) for one in kube.discover()
    }
    steps = needs(scenarios, profile.namespace, served, {"run.id": run_id})
    for step in steps.unchecked:
        progress(f"not checked: what step {step} needs, which only the run knows")
    needed = permissions.needed(
        objects,
        profile,
        kinds=served,
        makes_namespace=not adopts,
        further=steps.accesses,
    )
    missing = permissions.missing(kube, needed)
    required = [access for access in missing if access.required]
    if required:
        message = _refusal(required, needed, permissions.account(kube), profile.namespace)
        if adopts and (told := _occupied(kube, profile, objects)):
            message += f".\nBesides, {told}"
        raise EnvironmentFailure(message, hint=_hint(kube, profile.namespace))
    if missing:
        blind = ", ".join(dict.fromkeys(access.what for access in missing))
        progress(f"the report will not see {blind}; `k8s-e2e permissions --optional` prints what it takes")


def _refusal(missing: list[Access], needed: Iterable[Access], account: str, name: str) -> str:
    """Return what is missing, a resource a line; that there is nothing at all in the namespace is said first."""
    here = {access for access in needed if access.required and access.namespace == name}
    who = account or "this account"
    nothing = f"{who} has no rights in namespace {name}: " if here <= set(missing) else ""
    whose = f" for {account}" if account and not nothing else ""
    count = f"{len(missing)} permissions are" if len(missing) > 1 else "1 permission is"
    head = f"{nothing}{count} missing{whose}, and nothing was applied:"
    return f"{head}\n" + ";\n".join(permissions.grouped(missing))  # a report has it all on one line


def _hint(kube: Kube, name: str) -> str:
    """Return the command that prints what is missing, for the account that we are."""
    command = "permissions"
    parts = permissions.account(kube).split(":")
    if parts[:2] == ["system", "serviceaccount"] and parts[2:] != [name, _DEFAULT_ACCOUNT]:
        command += f" --account {'/'.join(parts[2:])}"
    return _PRINT.format(command=command)


def _occupied(kube: Kube, profile: Profile, objects: list[Object]) -> str:
    """Return why the namespace cannot be taken, as far as it may be looked at: one would be told only the next time."""
    try:
        if not namespace.run_in(kube, profile.namespace):
            adoption.refuse_inhabited(kube, profile.namespace, objects, profile.custom_resources)
    except EnvironmentFailure as error:
        return str(error)
    except ApiError:
        pass
    return ""


def _check_grants(kube: Kube, name: str, objects: list[Object]) -> None:
    """Let the server say whether the overlay's roles may be granted: it counts only what RBAC itself gave us."""
    roles = {(obj["kind"], obj["metadata"]["name"]) for obj in objects if obj["kind"] in _ROLES}
    for obj in objects:
        of = obj.get("roleRef") or {}
        if obj["kind"] in _ROLES or (obj["kind"] in _BINDINGS and (of.get("kind"), of.get("name")) not in roles):
            try:
                kube.apply(obj, namespace=name, dry_run=True)
            except ApiError as error:
                if error.status not in _FORBIDDEN:
                    raise
                message = f"{obj['kind']}/{obj['metadata']['name']} of the overlay may not be granted: {error.message}"
                raise EnvironmentFailure(message, hint=_hint(kube, name)) from error
