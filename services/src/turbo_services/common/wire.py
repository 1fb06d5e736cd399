"""The JSON that services exchange, as types: requests are validated by them, `/openapi.json` is made from them.

Keys are camelCase. A field that may be absent is `UNSET` (falsy) and is left out; nothing is ever ``null``.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

# `$(?!\n)` and not `\Z`: the same pattern stands in the JSON Schema, where `\Z` is unknown.
PackageName = Annotated[str, Meta(pattern=r"^(@[a-z0-9-]+/)?[a-z0-9][a-z0-9._/-]{0,127}$(?!\n)")]
Namespace = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$(?!\n)")]
Version = Annotated[str, Meta(min_length=1, max_length=128)]
Constraint = Annotated[str, Meta(max_length=256)]
EnvName = Annotated[str, Meta(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]{0,252}$(?!\n)")]
Quantity = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$(?!\n)")]
Image = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,500}$(?!\n)")]
AnnotationKey = Annotated[
    str, Meta(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$(?!\n)")
]
RoutePath = Annotated[str, Meta(pattern=r"^/[^?#\s]{0,255}$(?!\n)")]
HostName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$(?!\n)")]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^/\s]+[^\s]*$(?!\n)")]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Kind = Literal["graphql-service", "rest-service", "workflow", "rpc-service", "web-ui"]


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is answered; readers ignore keys they do not know."""


class Strict(Wire, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is asked; an unknown key is refused by name."""


# packages


class Dependency(Strict, frozen=True, kw_only=True):
    """Another package that is needed, in any version the semver range allows."""

    package_name: PackageName
    version_constraint: Constraint = "*"


class Resources(Strict, frozen=True, kw_only=True):
    """Kubernetes resource quantities by name (cpu, memory, ...)."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class Runtime(Strict, frozen=True, kw_only=True):
    """How a package runs; without an image the operator's stub container stands in."""

    image: Image | UnsetType = UNSET
    replicas: Annotated[int, Meta(ge=0, le=1000)] = 1
    env: dict[EnvName, str] = {}
    resources: Resources = Resources()
    port: PortNumber = 8080
    annotations: dict[AnnotationKey, str] = {}
    """Annotations of its pods; ``turboengine.io/probe-path`` makes the operator probe it over HTTP."""


class PackageRoute(Strict, frozen=True, kw_only=True):
    """A path that the gateway sends to the package."""

    path: RoutePath


class UpstreamConfig(Strict, frozen=True, kw_only=True):
    """What the package calls; it reaches the workload as UPSTREAM_URL and UPSTREAM_HEADERS (JSON)."""

    url: HttpUrl
    headers: dict[str, str] = {}


class PackageSpec(Strict, frozen=True, kw_only=True):
    """A package as it is published."""

    name: PackageName
    version: Version
    kind: Kind
    namespace: Namespace = "default"
    schema: str = ""
    dependencies: list[Dependency] = []
    runtime: Runtime = Runtime()
    routes: list[PackageRoute] = []
    upstream_config: UpstreamConfig | UnsetType = UNSET
    metadata: dict[str, Any] = {}


class Package(Wire, frozen=True, kw_only=True):
    """A published package version."""

    id: str
    name: str
    namespace: str
    kind: Kind
    version: str
    schema: str = ""
    dependencies: list[Dependency] = []
    runtime: Runtime = Runtime()
    routes: list[PackageRoute] = []
    upstream_config: UpstreamConfig | UnsetType = UNSET
    metadata: dict[str, Any] = {}
    created_at: str
    updated_at: str
    yanked: bool


class Closure(Wire, frozen=True, kw_only=True):
    """A package and all it needs, one version each; every package after those it depends on, the root last."""

    packages: list[Package]


# graphs: what builder hands to the operator


class GraphRuntime(Wire, frozen=True, kw_only=True):
    """How a component runs."""

    image: str | UnsetType = UNSET
    replicas: int
    port: int
    env: dict[str, str]
    resources: Resources
    annotations: dict[str, str] | UnsetType = UNSET


class GraphComponent(Wire, frozen=True, kw_only=True):
    """A package that runs in an environment."""

    package_name: str
    package_version: str
    kind: str
    artifact_hash: str
    runtime: GraphRuntime


class IngressRoute(Wire, frozen=True, kw_only=True):
    """A path of the environment and the component that answers it."""

    path: str
    target_component: str
    target_port: int


class Ingress(Wire, frozen=True, kw_only=True):
    """How the environment is reached from outside."""

    host: str
    routes: list[IngressRoute]


class Graph(Wire, frozen=True, kw_only=True):
    """Everything that shall run for an environment: the spec of an APIGraph."""

    environment_id: str
    build_id: str
    root_package: str
    components: list[GraphComponent]
    ingress: Ingress | UnsetType = UNSET


# builds


class Override(Strict, frozen=True, kw_only=True):
    """A version that runs instead of the one the ranges would choose."""

    package_name: PackageName
    version: Version


class BuildRequest(Strict, frozen=True, kw_only=True):
    """What to build."""

    environment_id: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$(?!\n)")]
    root_package_name: PackageName
    root_package_version: Constraint | UnsetType = UNSET
    overrides: list[Override] = []
    ingress_host: HostName | UnsetType = UNSET


BuildStatus = Literal["pending", "running", "succeeded", "failed"]


class BuildStep(Wire, frozen=True, kw_only=True):
    """One of resolve, compose, validate, bundle."""

    name: str
    status: BuildStatus
    started_at: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class Artifact(Wire, frozen=True, kw_only=True):
    """A bundled component."""

    package_name: str
    package_version: str
    kind: str
    artifact_hash: str
    routes: list[IngressRoute]


class Build(Wire, frozen=True, kw_only=True):
    """A build of an environment."""

    id: str
    environment_id: str
    root_package_name: str
    root_package_version: str | UnsetType = UNSET
    status: BuildStatus
    steps: list[BuildStep]
    artifacts: list[Artifact]
    error_message: str | UnsetType = UNSET
    created_at: str
    completed_at: str | UnsetType = UNSET


# environments

EnvironmentState = Literal["creating", "building", "ready", "failed", "deleting"]


class Environment(Wire, frozen=True, kw_only=True):
    """A running copy of a root package and all it needs."""

    id: str
    name: str
    status: EnvironmentState
    message: str | UnsetType = UNSET
    base_root_package: str
    base_root_version: str | UnsetType = UNSET
    branch: str | UnsetType = UNSET
    created_by: str | UnsetType = UNSET
    ingress_host: str | UnsetType = UNSET
    overrides: list[Override]
    current_build_id: str | UnsetType = UNSET
    created_at: str
    updated_at: str
    promoted_at: str | UnsetType = UNSET


class ComponentStatus(Wire, frozen=True, kw_only=True):
    """A component as the operator sees it."""

    package_name: str
    phase: str = ""
    message: str | None = None
    available_replicas: int = 0
    replicas: int = 0
    artifact_hash: str = ""


class GraphStatus(Wire, frozen=True, kw_only=True):
    """An environment as the operator sees it."""

    environment_id: str = ""
    phase: str = ""
    build_id: str | None = None
    observed_generation: int | None = None
    component_statuses: list[ComponentStatus] = []
    conditions: list[dict[str, Any]] = []
    preview_url: str | None = None


Phase = Literal["Building", "Reconciling", "Deploying", "Running", "Degraded", "Failed", "Deleting"]


class EnvironmentStatus(Wire, frozen=True, kw_only=True):
    """Is it up, and if not, where does it hang."""

    environment_id: str
    phase: Phase
    stuck_at: str | UnsetType = UNSET
    build: Build | UnsetType = UNSET
    operator: GraphStatus | UnsetType = UNSET
    routes: list[IngressRoute]
