"""Names and labels of the objects the operator makes."""

import hashlib
import re

MANAGER = "turbo-engine-operator"
GROUP = "turboengine.io"
GRAPH_KIND = "APIGraph"
GRAPH_API_VERSION = f"{GROUP}/v1"

LABEL_ENVIRONMENT = f"{GROUP}/environment"
LABEL_COMPONENT = f"{GROUP}/component"
LABEL_KIND = f"{GROUP}/kind"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_SOURCE = f"{GROUP}/source"
"""On an APIGraph: who wrote it, `builder` (synced, may be pruned) or `api`; absent when applied by hand."""

ANNOTATION_ARTIFACT_HASH = f"{GROUP}/artifact-hash"
ANNOTATION_PACKAGE_VERSION = f"{GROUP}/package-version"
ANNOTATION_PACKAGE_NAME = f"{GROUP}/package-name"
ANNOTATION_CONFIG_HASH = f"{GROUP}/config-hash"
ANNOTATION_PROBE_PATH = f"{GROUP}/probe-path"
ANNOTATION_PROBE_PORT = f"{GROUP}/probe-port"
ANNOTATION_TRACEPARENT = f"{GROUP}/traceparent"
"""On an APIGraph: W3C trace context of the request its newest generation came with."""
ANNOTATION_STORE = f"{GROUP}/builder-store"
"""On a synced APIGraph: the builder's data store that last held the graph."""

KIND_ORDER = {"ConfigMap": 0, "Service": 1, "Deployment": 2}
PREFIXES = {"ConfigMap": "cm-", "Service": "svc-", "Deployment": "deploy-"}

_LONGEST_LABEL = 63
_LONGEST_COMPONENT = 52  # "deploy-" and room to spare inside a DNS label
_HASH_DIGITS = 8


def object_name(raw: str, longest: int = _LONGEST_LABEL) -> str:
    """`raw` as a DNS label of at most `longest` characters.

    A valid name stays as it is. One that had to be changed or cut ends in a hash of the original, so that no two of
    those become one; nor does a valid name become another's unless somebody chose it to.
    """
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", raw) and len(raw) <= longest:
        return raw
    cleaned = re.sub(r"[^a-z0-9]+", "-", raw.lower()).strip("-")
    suffix = hashlib.sha256(raw.encode(errors="surrogatepass")).hexdigest()[:_HASH_DIGITS]
    head = cleaned[: longest - _HASH_DIGITS - 1].strip("-")
    return f"{head}-{suffix}" if head else f"x-{suffix}"


def graph_name(environment_id: str) -> str:
    """Name of the APIGraph of an environment; also the value of the environment label."""
    return object_name(environment_id)


def component_name(package_name: str) -> str:
    """The `<component>` in `deploy-<component>`, `svc-<component>`, `cm-<component>`."""
    return object_name(package_name, _LONGEST_COMPONENT)
