"""Packages in the database."""

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from turbo_services.common.clock import now
from turbo_services.common.errors import Conflict
from turbo_services.common.wire import Package, PackageSpec
from turbo_services.registry.versions import sort_key

metadata = MetaData()
packages = Table(
    "packages",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("namespace", String, nullable=False),
    Column("name", String, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("version_key", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("yanked", Boolean, nullable=False),
    Column("document", String, nullable=False),  # Package as JSON
    UniqueConstraint("namespace", "name", "version"),
)


class PackageStore:
    """Published packages; nothing is ever removed, only yanked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, package_id: str, spec: PackageSpec) -> Package:
        """Publish.

        Raises:
            Conflict: this version exists already.
        """
        time = now()
        given = {name: getattr(spec, name) for name in spec.__struct_fields__}
        package = Package(id=package_id, created_at=time, updated_at=time, yanked=False, **given)
        row = insert(packages).values(
            namespace=spec.namespace,
            name=spec.name,
            version=spec.version,
            version_key=sort_key(spec.version),
            kind=spec.kind,
            yanked=False,
            document=msgspec.json.encode(package).decode(),
        )
        try:
            with self._engine.begin() as connection:
                connection.execute(row)
        except IntegrityError as error:
            raise Conflict(f"{spec.name}@{spec.version} is already published in {spec.namespace!r}") from error
        return package

    def get(self, namespace: str, name: str, version: str) -> Package | None:
        """One version, yanked or not."""
        query = select(packages.c.document).where(
            packages.c.namespace == namespace, packages.c.name == name, packages.c.version == version
        )
        with self._engine.connect() as connection:
            document = connection.execute(query).scalar()
        return msgspec.json.decode(document, type=Package) if document else None

    def versions(self, namespace: str, name: str, *, yanked: bool | None = None) -> list[str]:
        """All versions of a package; with ``yanked`` only those (not) withdrawn."""
        query = select(packages.c.version).where(packages.c.namespace == namespace, packages.c.name == name)
        if yanked is not None:
            query = query.where(packages.c.yanked == yanked)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def yank(self, package: Package) -> Package:
        """Withdraw a version; again changes nothing."""
        if package.yanked:
            return package
        yanked = msgspec.structs.replace(package, yanked=True, updated_at=now())
        with self._engine.begin() as connection:
            connection.execute(
                update(packages)
                .where(
                    packages.c.namespace == package.namespace,
                    packages.c.name == package.name,
                    packages.c.version == package.version,
                )
                .values(yanked=True, document=msgspec.json.encode(yanked).decode())
            )
        return yanked

    def page(
        self,
        *,
        namespace: str | None,
        kind: str | None,
        name_prefix: str | None,
        after: list[str | int] | None,
        size: int,
    ) -> list[Package]:
        """Up to ``size`` packages by name, namespace and version, those after the key ``after``."""
        key = tuple_(packages.c.name, packages.c.namespace, packages.c.version_key)
        query = select(packages.c.document).order_by(packages.c.name, packages.c.namespace, packages.c.version_key)
        if namespace:
            query = query.where(packages.c.namespace == namespace)
        if kind:
            query = query.where(packages.c.kind == kind)
        if name_prefix:
            query = query.where(packages.c.name.startswith(name_prefix, autoescape=True))
        if after is not None:
            query = query.where(key > tuple_(*after))
        with self._engine.connect() as connection:
            documents = connection.execute(query.limit(size)).scalars()
            return [msgspec.json.decode(document, type=Package) for document in documents]
