"""Environments and the components they hold, in the database."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from turbo_services.common.errors import Conflict
from turbo_services.common.wire import Environment

metadata = MetaData()
environments = Table(
    "environments",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False, unique=True),
    Column("document", String, nullable=False),  # Record as JSON
)
claims = Table(
    "components",
    metadata,
    # Component names carry no environment, so in one namespace a component runs once.
    Column("name", String, primary_key=True),
    Column("environment_id", String, ForeignKey("environments.id", ondelete="CASCADE"), nullable=False, index=True),
)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A build that builder shall be asked for."""

    key: str
    """Makes asking again harmless."""
    root_version: str
    """A version, a range or ``latest``."""
    traceparent: str
    """Of the request that wants the build."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An environment and what is still to be done for it."""

    environment: Environment
    wanted: Wanted | None = None
    root_version: str = ""
    """What the current build was asked for: a version, a range or ``latest``."""
    graph_deleted: bool = False
    traceparent: str = ""
    """Of the request that deletes the environment."""


class EnvironmentStore:
    """The environments that exist."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, record: Record, components: Iterable[str]) -> None:
        """Take an environment in, with its components.

        Raises:
            Conflict: its name or a component is taken; the owner is named.
        """
        environment = record.environment
        with self._engine.begin() as connection:
            owner = connection.execute(
                select(environments.c.id).where(environments.c.name == environment.name)
            ).scalar()
            if owner is not None:
                raise Conflict(f"the name {environment.name!r} is taken by environment {owner}")
            connection.execute(
                insert(environments).values(id=environment.id, name=environment.name, document=_encode(record))
            )
            _claim(connection, environment.id, components)

    def claim(self, environment_id: str, components: Iterable[str]) -> None:
        """Hold further components.

        Raises:
            Conflict: one is held by another environment, which is named.
        """
        with self._engine.begin() as connection:
            _claim(connection, environment_id, components)

    def keep_only(self, environment_id: str, components: Iterable[str]) -> None:
        """Let go of the components the environment no longer runs."""
        with self._engine.begin() as connection:
            connection.execute(
                delete(claims).where(claims.c.environment_id == environment_id, claims.c.name.not_in(list(components)))
            )

    def save(self, record: Record) -> None:
        """Write an environment that exists."""
        with self._engine.begin() as connection:
            connection.execute(
                update(environments).where(environments.c.id == record.environment.id).values(document=_encode(record))
            )

    def get(self, environment_id: str) -> Record | None:
        """One environment."""
        with self._engine.connect() as connection:
            document = connection.execute(
                select(environments.c.document).where(environments.c.id == environment_id)
            ).scalar()
        return msgspec.json.decode(document, type=Record) if document else None

    def page(self, after: int, size: int) -> list[tuple[int, Record]]:
        """Up to ``size`` environments with their sequence number, oldest first."""
        query = select(environments.c.seq, environments.c.document).where(environments.c.seq > after)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(environments.c.seq).limit(size))
            return [(row.seq, msgspec.json.decode(row.document, type=Record)) for row in rows]

    def ids(self) -> list[str]:
        """The ids of all environments."""
        with self._engine.connect() as connection:
            return list(connection.execute(select(environments.c.id)).scalars())

    def remove(self, environment_id: str) -> None:
        """Forget an environment and let its components go."""
        with self._engine.begin() as connection:
            connection.execute(delete(environments).where(environments.c.id == environment_id))


def _encode(record: Record) -> str:
    return msgspec.json.encode(record).decode()


def _claim(connection: Connection, environment_id: str, components: Iterable[str]) -> None:
    for name in components:
        owner = connection.execute(
            select(environments.c.id, environments.c.name)
            .join(claims, claims.c.environment_id == environments.c.id)
            .where(claims.c.name == name)
        ).first()
        if owner is None:
            connection.execute(insert(claims).values(name=name, environment_id=environment_id))
        elif owner.id != environment_id:
            raise Conflict(f"component {name!r} already runs in environment {owner.name!r} ({owner.id})")
