"""registry's HTTP API."""

import uuid
from functools import cache

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response
from starlette.types import ASGIApp

from turbo_services.common import pages
from turbo_services.common.application import make_application
from turbo_services.common.errors import BadRequest, ErrorBody, NotFound, Unprocessable
from turbo_services.common.operations import Call, Operation, reply
from turbo_services.common.settings import Port, Settings
from turbo_services.common.storage import open_database
from turbo_services.common.wire import Closure, Kind, Package, PackageSpec, Strict
from turbo_services.registry import resolution, versions
from turbo_services.registry.store import PackageStore, metadata


class RegistrySettings(Settings, frozen=True, kw_only=True, rename="upper"):
    """registry's settings."""

    port: Port = 8081


class PublishRequest(Strict, frozen=True, kw_only=True):
    """The body of a publication."""

    package: PackageSpec


class PackageList(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A page of packages."""

    packages: list[Package]
    next_page_token: str | UnsetType = UNSET


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of the list."""

    namespace: str | None = None
    kind: Kind | None = None
    name_prefix: str | None = None
    page_size: pages.PageSize = pages.DEFAULT_PAGE_SIZE
    page_token: str | None = None


class VersionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to look."""

    namespace: str = "default"


class ClosureQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to look, and versions (``name@version``) taken whatever the ranges say."""

    namespace: str = "default"
    override: list[str] = []


class Registry:
    """The handlers."""

    def __init__(self, store: PackageStore) -> None:
        self._store = store

    async def publish(self, call: Call) -> Response:
        """``POST /v1/packages``."""
        spec = call.body_as(PublishRequest).package
        check(spec)
        return reply(self._store.add(f"pkg-{uuid.uuid4().hex[:12]}", spec), 201)

    async def list_packages(self, call: Call) -> Response:
        """``GET /v1/packages``."""
        query = call.query_as(ListQuery)
        after = None if query.page_token is None else pages.decode(query.page_token, (str, str, str))
        found = self._store.page(
            namespace=query.namespace,
            kind=query.kind,
            name_prefix=query.name_prefix,
            after=after,
            size=query.page_size + 1,
        )
        page, more = found[: query.page_size], found[query.page_size :]
        last = page[-1] if more else None
        token = pages.encode([last.name, last.namespace, versions.sort_key(last.version)]) if last else UNSET
        return reply(PackageList(packages=page, next_page_token=token))

    async def get_version(self, call: Call) -> Response:
        """``GET /v1/packages/{name}/versions/{version}``."""
        return reply(self._find(call.path("name"), call.path("version"), call.query_as(VersionQuery).namespace))

    async def yank(self, call: Call) -> Response:
        """``DELETE /v1/packages/{name}/versions/{version}``."""
        found = self._find(call.path("name"), call.path("version"), call.query_as(VersionQuery).namespace)
        return reply(self._store.yank(found))

    async def dependencies(self, call: Call) -> Response:
        """``GET /v1/packages/{name}/versions/{version}/dependencies``."""
        query = call.query_as(ClosureQuery)
        namespace = query.namespace
        overrides = dict(_override(text) for text in query.override)
        name = call.path("name")
        root = self._find(name, overrides.get(name, call.path("version")), namespace)
        for other, version in overrides.items():
            self._exact(other, version, namespace)

        @cache
        def choices(package: str) -> tuple[str, ...]:
            return tuple(self._store.versions(namespace, package, yanked=False))

        @cache
        def package_of(pin: resolution.Pin) -> Package:
            return self._exact(pin.name, pin.version, namespace)

        def needs(pin: resolution.Pin) -> dict[str, str]:
            return {d.package_name: d.version_constraint for d in package_of(pin).dependencies}

        try:
            order = resolution.resolve(resolution.Pin(root.name, root.version), choices, needs, overrides)
        except resolution.ResolutionError as error:
            raise Unprocessable(str(error)) from None
        return reply(Closure(packages=[package_of(pin) for pin in order]))

    def _exact(self, name: str, version: str, namespace: str) -> Package:
        found = self._store.get(namespace, name, version)
        if found is None:
            raise self._missing(name, version, namespace)
        return found

    def _find(self, name: str, version: str, namespace: str) -> Package:
        """A package by exact version, by ``latest`` or by the newest one of a range."""
        if versions.is_version(version):
            return self._exact(name, version, namespace)
        if version != versions.LATEST and not versions.is_range(version):
            raise BadRequest(f"{version!r} is neither a version nor a range nor 'latest'")
        newest = versions.newest(self._store.versions(namespace, name, yanked=False), version)
        if newest is None:
            raise self._missing(name, version, namespace)
        return self._exact(name, newest, namespace)

    def _missing(self, name: str, version: str, namespace: str) -> NotFound:
        published = sorted(self._store.versions(namespace, name), key=versions.sort_key, reverse=True)
        if not published:
            return NotFound(f"package {name!r} is not published in namespace {namespace!r}")
        left = set(self._store.versions(namespace, name, yanked=False))
        names = ", ".join(v if v in left else f"{v} (yanked)" for v in published[:10])
        return NotFound(f"package {name!r} has no version {version!r} to choose; there is {names}")


def _override(text: str) -> tuple[str, str]:
    name, _, version = text.rpartition("@")
    if not name or not versions.is_version(version):
        raise BadRequest(f"override {text!r} is not name@version with an exact version")
    return name, version


def check(spec: PackageSpec) -> None:
    """What the types cannot say.

    Raises:
        BadRequest: naming the field.
    """
    if not versions.is_version(spec.version):
        raise BadRequest(f"{spec.version!r} is not a semantic version like 1.2.3 - at `$.package.version`")
    seen: set[str] = set()
    for index, dependency in enumerate(spec.dependencies):
        at = f"at `$.package.dependencies[{index}]`"
        if not versions.is_range(dependency.version_constraint):
            raise BadRequest(f"{dependency.version_constraint!r} is not a semver range - {at}")
        if dependency.package_name in seen:
            raise BadRequest(f"{dependency.package_name!r} is listed twice - {at}")
        if dependency.package_name == spec.name:
            raise BadRequest(f"a package cannot depend on itself - {at}")
        seen.add(dependency.package_name)


def operations(registry: Registry) -> list[Operation]:
    """What registry promises."""
    version = "/v1/packages/{name:path}/versions/{version}"
    refused = {400: ErrorBody, 404: ErrorBody}
    return [
        Operation(
            "POST",
            "/v1/packages",
            "Publish a package version",
            registry.publish,
            {201: Package, 400: ErrorBody, 409: ErrorBody, 413: ErrorBody, 415: ErrorBody},
            body=PublishRequest,
        ),
        Operation(
            "GET",
            "/v1/packages",
            "List package versions",
            registry.list_packages,
            {200: PackageList, 400: ErrorBody},
            query=ListQuery,
        ),
        Operation(
            "GET",
            f"{version}/dependencies",
            "The closure of a package's dependencies, in topological order",
            registry.dependencies,
            {200: Closure, **refused, 422: ErrorBody},
            query=ClosureQuery,
        ),
        Operation(
            "GET",
            version,
            "A package by exact version, by 'latest' or by the newest one of a range",
            registry.get_version,
            {200: Package, **refused},
            query=VersionQuery,
        ),
        Operation(
            "DELETE",
            version,
            "Yank a version: it stays readable, but no range and no 'latest' chooses it",
            registry.yank,
            {200: Package, **refused},
            query=VersionQuery,
        ),
    ]


def build(settings: RegistrySettings) -> ASGIApp:
    """The service."""
    engine = open_database(settings.data_dir, "registry", metadata)
    return make_application("registry", operations(Registry(PackageStore(engine))))
