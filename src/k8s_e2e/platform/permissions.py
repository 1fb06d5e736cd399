"""What the kit must be allowed to do in somebody else's cluster, and whether it is: before anything is applied."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from k8s_e2e.model.profile import Profile
from k8s_e2e.platform import rollout
from k8s_e2e.platform.kube import ApiError, Kube

WORKERS = 16
APPLY = ("create", "patch")  # server-side apply is a patch, and a create where the object is not there yet
REMOVE = ("list", "delete")
FOLLOW = ("get", "list", "watch")
_EXTENSIONS = "apiextensions.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

_FOLLOWED = (("", "pods"), ("", "services"), ("", "events"), ("apps", "deployments"), ("apps", "replicasets"))
_EMPTIED = (  # at once, before a namespace is deleted
    ("", "pods"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
)

# What the flight recorder and the collector read beside what a run cannot do without.
_RECORDED = (
    ("", "configmaps"),
    ("", "secrets"),
    ("", "persistentvolumeclaims"),
    ("", "resourcequotas"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("discovery.k8s.io", "endpointslices"),
)

Object = dict[str, Any]


class Kind(NamedTuple):
    """How the API server calls a kind: its group, plural, and whether its objects are in namespaces."""

    group: str
    plural: str
    namespaced: bool


class Access(NamedTuple):
    """One thing that one may do; no ``namespace``: in the whole cluster. What is not ``required`` is a blind spot."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    required: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.what}"

    @property
    def what(self) -> str:
        """The resource and where it is, as people say it."""
        what = self.resource + (f".{self.group}" if self.group else "") + (f"/{self.name}" if self.name else "")
        if self.resource == "namespaces" and self.name:
            return what
        return f"{what} " + (f"in {self.namespace}" if self.namespace else "in the whole cluster")


def needed(
    objects: Iterable[Object],
    profile: Profile,
    *,
    kinds: Mapping[tuple[str, str], Kind] | None = None,
    makes_namespace: bool = False,
    further: Iterable[Access] = (),
) -> tuple[Access, ...]:
    """Return all that a run does with the account it has, each once.

    Args:
        objects: what will be applied. A Namespace or CRD that is used as it is, is not among them.
        profile: names namespace, custom resources and the chain.
        kinds: (apiVersion, kind) -> how the server calls it; what is not in there is guessed as kubectl guesses.
        makes_namespace: whether the namespace is the kit's, to be made and removed.
        further: what else is done in it: the steps of scenarios.
    """
    applied = [obj for obj in objects if obj["kind"] != "Namespace"]
    names = known_kinds(applied, profile) | dict(kinds or {})
    found = [*_own(profile.namespace, makes_namespace=makes_namespace), *further]
    for custom in profile.custom_resources:
        space = profile.namespace if names[custom.api_version, custom.kind].namespaced else ""
        found += _each((*FOLLOW, "delete"), custom.group, custom.plural, space)
    for station in profile.chain:
        if station.objects:
            kind = kind_of(station.objects.api_version, station.objects.kind, names)
            space = profile.namespace if kind.namespaced else ""
            found += _each(("get", "list"), kind.group, kind.plural, space, required=False)
    for obj in applied:
        kind = kind_of(obj["apiVersion"], obj["kind"], names, obj)
        space = str(obj["metadata"].get("namespace") or profile.namespace) if kind.namespaced else ""
        watched = ("watch",) if obj["kind"] in rollout.SETS else ()
        found += _each(("get", *APPLY, *REMOVE, *watched), kind.group, kind.plural, space)
        found += _granted(obj, space)
        if kind == Kind(_EXTENSIONS, "customresourcedefinitions", namespaced=False):
            # Is any left in another namespace? Only then the CRD may not go.
            found += _each(("list",), obj["spec"]["group"], obj["spec"]["names"]["plural"], "")
    required = {access._replace(required=True) for access in found if access.required}
    optional = {access for access in found if access._replace(required=True) not in required}
    return tuple(sorted(required | optional))


def missing(kube: Kube, accesses: Iterable[Access]) -> list[Access]:
    """Return those of ``accesses`` that the API server says it would refuse, asked one by one.

    Raises:
        ApiError: it does not answer, or not even that may be asked.
    """
    asked = list(accesses)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="access") as pool:
        allowed = list(pool.map(lambda access: _allowed(kube, access), asked))
    return [access for access, yes in zip(asked, allowed, strict=True) if not yes]


def grouped(accesses: Iterable[Access]) -> list[str]:
    """Return one line for each resource: ``deployments.apps in NAMESPACE: create delete``."""
    verbs: dict[str, set[str]] = {}
    for access in accesses:
        verbs.setdefault(access.what, set()).add(access.verb)
    return [f"{what}: {' '.join(sorted(of))}" for what, of in verbs.items()]


def account(kube: Kube) -> str:
    """Return the user name that the API server knows us by; empty where it does not say (before Kubernetes 1.28)."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = kube.request("POST", _WHO, body=review)
    except ApiError:
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


def kind_of(
    api_version: str, kind: str, known: Mapping[tuple[str, str], Kind], obj: Mapping[str, Any] | None = None
) -> Kind:
    """Return how the server calls a kind; one that is not ``known`` is guessed by the rule of English plurals."""
    found = known.get((api_version, kind))
    if found:
        return found
    word = kind.lower()
    if word.endswith(("s", "x", "ch")):
        plural = word if word == "endpoints" else f"{word}es"
    elif word.endswith("y") and word[-2] not in "aeiou":
        plural = f"{word[:-1]}ies"
    else:
        plural = f"{word}s"
    namespaced = obj is None or "namespace" in obj["metadata"]  # kustomize writes it where it belongs
    return Kind(api_version.rpartition("/")[0], plural, namespaced)


def known_kinds(objects: Iterable[Object], profile: Profile) -> dict[tuple[str, str], Kind]:
    """Return the kinds that the profile and the CRDs among ``objects`` tell of; what the server says must win.

    A profile does not say whether its kinds are in namespaces: they are taken for that.
    """
    found = {
        (custom.api_version, custom.kind): Kind(custom.group, custom.plural, namespaced=True)
        for custom in profile.custom_resources
    }
    for obj in objects:
        if obj["kind"] == "CustomResourceDefinition":
            spec = obj["spec"]
            kind = Kind(spec["group"], spec["names"]["plural"], spec.get("scope") == "Namespaced")
            for version in spec["versions"]:
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = kind
    return found


def _own(namespace: str, *, makes_namespace: bool) -> Iterator[Access]:
    """Yield what the kit itself does, whatever the overlay is."""
    yield Access("get", "", "namespaces", namespace, namespace)
    if makes_namespace:
        yield Access("create", "", "namespaces")
        yield Access("patch", "", "namespaces", namespace, namespace)
        yield Access("delete", "", "namespaces", namespace, namespace)
        for group, resource in _EMPTIED:
            yield from _each(("deletecollection",), group, resource, namespace)
    yield from _each(("get",), "", "serviceaccounts", namespace)
    yield from _each(("get", "create", *REMOVE), "", "configmaps", namespace)  # says whose run is in a namespace
    for group, resource in _FOLLOWED:
        yield from _each(FOLLOW, group, resource, namespace)  # rollout, port-forwards, recorder
    yield from _each(("get",), "", "pods/log", namespace)
    yield from _each(("create",), "", "pods/portforward", namespace)
    yield from _each(("get",), "", "pods/portforward", namespace)  # over a websocket, which old servers see as a get
    for group, resource in _RECORDED:
        yield from _each(("list", "watch"), group, resource, namespace, required=False)
    yield from _each(("list", "watch"), "", "nodes", "", required=False)
    yield from _each(("list",), "", "persistentvolumes", "", required=False)
    for verb in ("list", "watch"):
        yield Access(verb, "", "namespaces", "", namespace, required=False)


def _granted(obj: Object, space: str) -> Iterator[Access]:
    """Yield what a Role or ClusterRole grants: nobody may grant what they do not have themselves."""
    if obj["kind"] not in ("Role", "ClusterRole") or not obj["apiVersion"].startswith(_RBAC):
        return
    for rule in obj.get("rules") or ():
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for name in rule.get("resourceNames") or ("",):
                    for verb in rule["verbs"]:
                        yield Access(verb, group, resource, space, name)


def _each(verbs: Iterable[str], group: str, resource: str, space: str, *, required: bool = True) -> Iterator[Access]:
    for verb in verbs:
        yield Access(verb, group, resource, space, required=required)


def _allowed(kube: Kube, access: Access) -> bool:
    resource, _, subresource = access.resource.partition("/")
    attributes = {
        "verb": access.verb,
        "group": access.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": access.namespace,
        "name": access.name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = kube.request("POST", _REVIEWS, body=review)
    return bool((answer.get("status") or {}).get("allowed"))
