"""Images from a registry: what a project builds is named PREFIX + tag, and pulled."""

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any

from k8s_e2e.base.errors import UsageError
from k8s_e2e.cluster.oci import full_reference
from k8s_e2e.model.profile import Profile

Object = dict[str, Any]

# registry (with port) and repository path, as the distribution reference grammar has them
_PREFIX = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*/"
)


def checked(prefix: str) -> str:
    """Return ``prefix`` so that a tag can be put behind it (``registry.example/team/``); an empty one stays empty.

    Raises:
        UsageError: no image reference can begin with it.
    """
    if not prefix:
        return ""
    whole = prefix if prefix.endswith("/") else f"{prefix}/"
    if not _PREFIX.fullmatch(whole):
        message = f"--image-prefix {prefix}: no image can be called {whole}NAME:TAG"
        hint = "a registry and a path in lower case, such as registry.example/team/; no scheme, no tag"
        raise UsageError(message, hint=hint)
    return whole


def own_images(profile: Profile) -> list[str]:
    """Return every tag that the profile's images have."""
    return [tag for build in profile.images for tag in build.tags]


def prefixed(objects: Iterable[Object], references: Iterable[str], prefix: str) -> list[Object]:
    """Return copies of ``objects`` that name each of ``references`` as ``prefix`` + reference, with a policy that fits.

    That holds for containers, and for a variable whose whole value is one of them (an operator is told so what to run).
    """
    wanted = {full_reference(reference): prefix + reference for reference in references}
    changed = copy.deepcopy(list(objects))
    for obj in changed:
        for container in containers(obj):
            if new := wanted.get(full_reference(container.get("image") or "")):
                container["image"], container["imagePullPolicy"] = new, pull_policy(new)
            for variable in container.get("env") or ():
                if new := wanted.get(full_reference(variable.get("value") or "")):
                    variable["value"] = new
    return changed


def pull_policy(reference: str) -> str:
    """Return the policy for an image of a registry: a tag may mean another image by now, a digest never does."""
    return "IfNotPresent" if "@" in reference else "Always"


def containers(obj: Object) -> Iterator[Object]:
    """Yield the containers, init containers too, of a pod or of whatever has a pod template."""
    spec = obj.get("spec") or {}
    spec = (spec.get("jobTemplate") or {}).get("spec") or spec  # of a CronJob
    pod = spec if obj["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}
    yield from pod.get("initContainers") or ()
    yield from pod.get("containers") or ()
