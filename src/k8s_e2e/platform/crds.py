"""CustomResourceDefinitions that are in a cluster already: somebody else's are used as they are."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from k8s_e2e.base.errors import EnvironmentFailure, WaitTimeout
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.platform.kube import FIELD_MANAGER, ApiError, Kube
from k8s_e2e.platform.ownership import is_ours

API_VERSION, KIND = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
GONE_TIMEOUT_S = 30.0
_FORBIDDEN = (401, 403)

Object = dict[str, Any]


class Settled(NamedTuple):
    """What is left to be applied, and what there is to say of CRDs that are not."""

    objects: list[Object]
    remarks: list[str]


def settle(kube: Kube, objects: Iterable[Object]) -> Settled:
    """Take those CRDs out of ``objects`` that somebody else made.

    Raises:
        EnvironmentFailure: such a one does not serve a version that ours does, or one that is going does not go.
        ApiError: the API server does not answer.
    """
    left, remarks = [], []
    for obj in objects:
        if obj["kind"] != KIND:
            left.append(obj)
            continue
        name = obj["metadata"]["name"]
        try:
            live = _resting(kube, name)
        except ApiError as error:
            if error.status not in _FORBIDDEN:
                raise
            if _served(kube, obj) == _versions(obj):
                remarks.append(f"CRD {name} is there and is used as it is; its schema may not be read")
            else:
                left.append(obj)  # not there: to be made, and whether that is allowed is asked next
            continue
        if live is None or is_ours(live) or _applied_by_us(live):
            left.append(obj)
            continue
        remarks.append(_remark(obj, live))
    return Settled(left, remarks)


def _resting(kube: Kube, name: str) -> Object | None:
    """Return a CRD; one that is being deleted is waited for until it is gone."""

    def probe() -> Object | Pending | None:
        live = kube.get(API_VERSION, KIND, name)
        return Pending("being deleted") if live and "deletionTimestamp" in live["metadata"] else live

    try:
        return wait_for(f"CRD {name} to be gone", probe, timeout_s=GONE_TIMEOUT_S)
    except WaitTimeout as error:
        raise EnvironmentFailure(error.message, hint=f"`kubectl describe crd {name}` shows what holds it") from error


def _remark(ours: Object, live: Object) -> str:
    name = ours["metadata"]["name"]
    schemas = {version["name"]: version.get("schema") for version in live["spec"]["versions"] if version.get("served")}
    absent = [version for version in _versions(ours) if version not in schemas]
    if absent or live["spec"]["names"]["kind"] != ours["spec"]["names"]["kind"]:
        served = f"{live['spec']['names']['kind']} in {', '.join(schemas) or 'no version'}"
        message = f"CRD {name} is there, is not ours and serves {served}, not {', '.join(_versions(ours))}"
        raise EnvironmentFailure(message, hint="whoever keeps it must bring it up to date: the kit does not change it")
    differing = [
        version["name"]
        for version in ours["spec"]["versions"]
        if version.get("served") and version.get("schema") != schemas[version["name"]]
    ]
    if differing:
        return (
            f"CRD {name} is there and is used as it is; its schema differs from the overlay's: {', '.join(differing)}"
        )
    return f"CRD {name} is there and is used as it is"


def _versions(crd: Object) -> list[str]:
    return [version["name"] for version in crd["spec"]["versions"] if version.get("served")]


def _served(kube: Kube, crd: Object) -> list[str]:
    """Return those versions of ours that discovery knows."""
    found = []
    for version in _versions(crd):
        try:
            kube.resource(f"{crd['spec']['group']}/{version}", crd["spec"]["names"]["kind"])
        except ApiError as error:
            if error.status in (0, *_FORBIDDEN):
                raise
        else:
            found.append(version)
    return found


def _applied_by_us(live: Object) -> bool:
    """Whether an earlier version of the kit applied it, which set no label."""
    managers = live["metadata"].get("managedFields") or ()
    return any(entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" for entry in managers)
