"""The overlay as objects, and the objects into the cluster: namespace, CRDs, then what uses them."""

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from k8s_e2e.base import files, process
from k8s_e2e.base.errors import ExpectationError, UsageError
from k8s_e2e.base.progress import Progress
from k8s_e2e.base.wait import Pending, wait_for
from k8s_e2e.model.profile import Profile
from k8s_e2e.platform.image_prefix import containers
from k8s_e2e.platform.kube import ApiError, Kube

RENDER_TIMEOUT_S = 60.0
ESTABLISH_TIMEOUT_S = 30.0  # for the server to serve a new CRD

Object = dict[str, Any]
_CRD = "CustomResourceDefinition"

_FIRST = (  # what others refer to; the rest follows as it is written
    "Namespace",
    _CRD,
    "PriorityClass",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
)


def overlay_dir(profile: Profile) -> Path:
    """Return the directory of the profile's overlay.

    Raises:
        UsageError: it is none.
    """
    overlay = (profile.root / profile.overlay).resolve()
    if not (overlay / "kustomization.yaml").is_file():
        message = f"{profile.file}: overlay: {overlay} has no kustomization.yaml"
        raise UsageError(message, hint="name the directory of a kustomize overlay")
    return overlay


def render(profile: Profile, kubectl: Path, *, images: dict[str, str], namespace: str = "") -> list[Object]:
    """Return the objects of the profile's overlay, through ``kubectl kustomize``.

    Args:
        profile: names the overlay directory.
        kubectl: a kubectl; no cluster is asked.
        images: image name in the manifests (without tag) -> ``name:tag`` or ``name@digest`` that takes its place.
        namespace: where everything goes instead of the overlay's own namespace.

    Raises:
        UsageError: there is no overlay, or kustomize refuses it (its words are in the message).
    """
    overlay = overlay_dir(profile)
    with tempfile.TemporaryDirectory(prefix="k8s-e2e-overlay-") as directory:
        top = Path(directory).resolve()
        wanted: Object = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(overlay, top)],
            "images": [replacement(name, new) for name, new in sorted(images.items())],
        }
        if namespace:
            wanted["namespace"] = namespace
        files.write_json(top / "kustomization.yaml", wanted)
        try:
            done = process.run([kubectl, "kustomize", top], timeout_s=RENDER_TIMEOUT_S)
        except process.ProgramFailed as error:
            message = f"kustomize refuses {overlay}: {error.message.partition(': ')[2] or error.message}"
            raise UsageError(message, hint=f"`kubectl kustomize {overlay}` shows the same") from error
    objects = [obj for obj in yaml.load_all(done.stdout, Loader=_LOADER) if obj]
    if not objects:
        raise UsageError(f"{overlay} renders to nothing", hint="its kustomization.yaml names no resources")
    return objects


def replacement(name: str, new: str) -> dict[str, str]:
    """Return kustomize's ``images`` entry that puts ``new`` (``name:tag``, ``name@digest`` or a name) for ``name``."""
    entry = {"name": name}
    new_name, at, digest = new.partition("@")
    if at:
        return {**entry, "newName": new_name, "digest": digest}
    head, colon, tag = new.rpartition(":")
    if colon and "/" not in tag:  # not the port of a registry
        return {**entry, "newName": head, "newTag": tag}
    return {**entry, "newName": new}


def images_of(objects: list[Object]) -> list[str]:
    """Return every image that the pods of ``objects`` name, sorted."""
    found = {container["image"] for obj in objects for container in containers(obj)}
    return sorted(found)


def mentioned(objects: list[Object]) -> set[str]:
    """Return every text of ``objects`` without its tag or digest: image names are among them, those in an env, too."""
    found: set[str] = set()
    rest: list[Any] = list(objects)
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            found.add(_untagged(value))
        elif isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return found


def _untagged(image: str) -> str:
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def in_order(objects: list[Object]) -> list[Object]:
    """Return ``objects`` so that what others refer to comes before them; otherwise as they stood."""
    rank = {kind: place for place, kind in enumerate(_FIRST)}
    return sorted(objects, key=lambda obj: rank.get(obj["kind"], len(_FIRST)))


def apply_all(kube: Kube, objects: list[Object], namespace: str, *, progress: Progress, dry_run: bool = False) -> None:
    """Apply all objects: namespaces, CRDs (and wait until they are served), then the rest.

    ``dry_run`` asks the server to check each object and to change nothing; namespace and CRDs must be there for that.

    Raises:
        ExpectationError: the server refuses an object (which, and why), or a CRD is not served in time (WaitTimeout).
    """
    progress(f"{'checking' if dry_run else 'applying'} {len(objects)} objects in namespace {namespace}")
    ordered = in_order(objects)
    crds = [obj for obj in ordered if obj["kind"] == _CRD]
    upfront = [obj for obj in ordered if obj["kind"] == "Namespace"] + crds
    for obj in upfront:
        _apply(kube, obj, namespace, dry_run=dry_run)
    if not dry_run:
        for crd in crds:
            progress(f"waiting for the API server to serve {crd['metadata']['name']}")
            _await_served(kube, crd)
    for obj in ordered:
        if obj not in upfront:
            _apply(kube, obj, namespace, dry_run=dry_run)


def _apply(kube: Kube, obj: Object, namespace: str, *, dry_run: bool) -> None:
    try:
        kube.apply(obj, namespace=namespace, dry_run=dry_run)
    except ApiError as error:
        message = f"the cluster refuses {obj['kind']}/{obj['metadata']['name']}: {error.message}"
        hint = "correct it in the overlay or its base" if error.status else "the API server did not answer"
        raise ExpectationError(message, hint=hint) from error


def _await_served(kube: Kube, crd: Object) -> None:
    name, spec = crd["metadata"]["name"], crd["spec"]
    served = [f"{spec['group']}/{version['name']}" for version in spec["versions"] if version.get("served")]

    def probe() -> Pending | bool:
        live = kube.get("apiextensions.k8s.io/v1", _CRD, name) or {}
        conditions = live.get("status", {}).get("conditions") or []  # null until the first one
        if not any(cond["type"] == "Established" and cond["status"] == "True" for cond in conditions):
            refused = [f"{cond['type']}: {cond['message']}" for cond in conditions if cond["status"] == "False"]
            return Pending("; ".join(refused) or "not established yet")
        try:
            for version in served:
                kube.resource(version, spec["names"]["kind"])
        except ApiError as error:
            return Pending(error.message)
        return True

    wait_for(f"the API server to serve {name}", probe, timeout_s=ESTABLISH_TIMEOUT_S, interval_s=0.05)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
