"""Permissions as the objects that grant them to a ServiceAccount."""

from collections.abc import Iterable
from typing import Any

from k8s_e2e.platform.permissions import Access

_API = "rbac.authorization.k8s.io"
_VERSION = f"{_API}/v1"

Object = dict[str, Any]


def rules(accesses: Iterable[Access]) -> list[Object]:
    """Return the fewest rules that grant exactly ``accesses``: resources of one group that share verbs share a rule."""
    verbs: dict[tuple[str, str, str], set[str]] = {}
    for access in accesses:
        verbs.setdefault((access.group, access.resource, access.name), set()).add(access.verb)
    shared: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (group, resource, name), allowed in sorted(verbs.items()):
        shared.setdefault((group, name, tuple(sorted(allowed))), []).append(resource)
    return [
        {
            "apiGroups": [group],
            "resources": resources,
            **({"resourceNames": [name]} if name else {}),
            "verbs": list(allowed),
        }
        for (group, name, allowed), resources in sorted(shared.items())
    ]


def role(accesses: Iterable[Access], name: str, namespace: str, account: tuple[str, str]) -> list[Object]:
    """Return a Role in ``namespace`` and its RoleBinding to ``account`` (namespace, name)."""
    here = [access for access in accesses if access.namespace == namespace]
    metadata = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": _VERSION, "kind": "Role", "metadata": metadata, "rules": rules(here)},
        {"apiVersion": _VERSION, "kind": "RoleBinding", "metadata": metadata, **_bound("Role", name, account)},
    ]


def cluster_role(accesses: Iterable[Access], name: str, account: tuple[str, str]) -> list[Object]:
    """Return a ClusterRole and its ClusterRoleBinding to ``account``: what a Role in one namespace cannot grant."""
    metadata, binding = {"name": name}, _bound("ClusterRole", name, account)
    return [
        {"apiVersion": _VERSION, "kind": "ClusterRole", "metadata": metadata, "rules": rules(accesses)},
        {"apiVersion": _VERSION, "kind": "ClusterRoleBinding", "metadata": metadata, **binding},
    ]


def _bound(kind: str, name: str, account: tuple[str, str]) -> Object:
    namespace, account_name = account
    return {
        "roleRef": {"apiGroup": _API, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account_name, "namespace": namespace}],
    }
