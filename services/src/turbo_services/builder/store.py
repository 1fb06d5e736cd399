"""Builds, their logs and the graphs they made, in the database."""

import uuid
from typing import Literal

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

from turbo_services.common.clock import now
from turbo_services.common.wire import Build, BuildRequest, Graph

metadata = MetaData()
builds = Table(
    "builds",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("environment_id", String, nullable=False, index=True),
    Column("status", String, nullable=False, index=True),
    Column("idempotency_key", String, unique=True),
    Column("request", String, nullable=False),  # BuildRequest as JSON
    Column("document", String, nullable=False),  # Build as JSON
    Column("graph", String),  # Graph as JSON, of a build that succeeded
    Column("traceparent", String, nullable=False),  # of the request that asked for the build
    Column("retired", Boolean, nullable=False, default=False),  # the environment was deleted
)
identity = Table("identity", metadata, Column("id", String, primary_key=True))  # one row: names this data store
logs = Table(
    "build_logs",
    metadata,
    Column("build_id", String, ForeignKey("builds.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("document", String, nullable=False),  # LogLine as JSON
)


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a build's log."""

    seq: int
    time: str
    level: Literal["info", "error"]
    step: str
    message: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A build that is to be done."""

    build: Build
    request: BuildRequest
    traceparent: str


class BuildStore:
    """Every build ever asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.id = self._identity()
        """Names the data: a builder that lost its data has another one, so its silence deletes nothing."""

    def _identity(self) -> str:
        with self._engine.begin() as connection:
            known = connection.execute(select(identity.c.id)).scalar()
            if known is None:
                known = uuid.uuid4().hex
                connection.execute(insert(identity).values(id=known))
        return str(known)

    def add(self, job: Job, idempotency_key: str | None) -> Build:
        """Take a build in; one with a known key is not taken twice, the first is returned."""
        with self._engine.begin() as connection:
            if idempotency_key is not None:
                known = connection.execute(
                    select(builds.c.document).where(builds.c.idempotency_key == idempotency_key)
                ).scalar()
                if known is not None:
                    return msgspec.json.decode(known, type=Build)
            connection.execute(
                insert(builds).values(
                    id=job.build.id,
                    environment_id=job.build.environment_id,
                    status=job.build.status,
                    idempotency_key=idempotency_key,
                    request=msgspec.json.encode(job.request).decode(),
                    document=msgspec.json.encode(job.build).decode(),
                    traceparent=job.traceparent,
                    retired=False,
                )
            )
        return job.build

    def save(self, build: Build, graph: Graph | None = None) -> bool:
        """Write the state of a build that is not finished; False when it is finished already (e.g. cancelled)."""
        values: dict[str, object] = {"status": build.status, "document": msgspec.json.encode(build).decode()}
        if graph is not None:
            values["graph"] = msgspec.json.encode(graph).decode()
        with self._engine.begin() as connection:
            done = connection.execute(
                update(builds)
                .where(builds.c.id == build.id, builds.c.status.in_(("pending", "running")))
                .values(**values)
            )
        return done.rowcount == 1

    def get(self, build_id: str) -> Build | None:
        """One build."""
        with self._engine.connect() as connection:
            document = connection.execute(select(builds.c.document).where(builds.c.id == build_id)).scalar()
        return msgspec.json.decode(document, type=Build) if document else None

    def unfinished(self, environment_id: str | None = None) -> list[Job]:
        """Builds that are pending or running, oldest first."""
        query = select(builds.c.document, builds.c.request, builds.c.traceparent).order_by(builds.c.seq)
        query = query.where(builds.c.status.in_(("pending", "running")))
        if environment_id is not None:
            query = query.where(builds.c.environment_id == environment_id)
        with self._engine.connect() as connection:
            return [
                Job(
                    build=msgspec.json.decode(row.document, type=Build),
                    request=msgspec.json.decode(row.request, type=BuildRequest),
                    traceparent=row.traceparent,
                )
                for row in connection.execute(query)
            ]

    def page(self, environment_id: str | None, before: int | None, size: int) -> list[tuple[int, Build]]:
        """Up to ``size`` builds with their sequence number, newest first, older than ``before``."""
        query = select(builds.c.seq, builds.c.document).order_by(builds.c.seq.desc()).limit(size)
        if environment_id is not None:
            query = query.where(builds.c.environment_id == environment_id)
        if before is not None:
            query = query.where(builds.c.seq < before)
        with self._engine.connect() as connection:
            return [(row.seq, msgspec.json.decode(row.document, type=Build)) for row in connection.execute(query)]

    def graphs(self) -> list[tuple[Graph, str]]:
        """The graph of every live environment's newest successful build, sorted by environment.

        Each comes with the traceparent of the request that asked for the build (may be empty).
        """
        newest = (
            select(func.max(builds.c.seq))
            .where(builds.c.status == "succeeded", ~builds.c.retired)
            .group_by(builds.c.environment_id)
        )
        query = select(builds.c.graph, builds.c.traceparent)
        query = query.where(builds.c.seq.in_(newest)).order_by(builds.c.environment_id)
        with self._engine.connect() as connection:
            return [(msgspec.json.decode(row.graph, type=Graph), row.traceparent) for row in connection.execute(query)]

    def retire(self, environment_id: str) -> None:
        """Take an environment's graph away; again changes nothing."""
        with self._engine.begin() as connection:
            connection.execute(update(builds).where(builds.c.environment_id == environment_id).values(retired=True))

    def log(self, build_id: str, level: Literal["info", "error"], step: str, message: str) -> None:
        """Append a line to a build's log."""
        with self._engine.begin() as connection:
            last = connection.execute(select(func.max(logs.c.seq)).where(logs.c.build_id == build_id)).scalar() or 0
            line = LogLine(seq=last + 1, time=now(), level=level, step=step, message=message)
            connection.execute(
                insert(logs).values(build_id=build_id, seq=line.seq, document=msgspec.json.encode(line).decode())
            )

    def lines(self, build_id: str, after: int) -> list[LogLine]:
        """The lines of a build's log with a number above ``after``."""
        query = select(logs.c.document).where(logs.c.build_id == build_id, logs.c.seq > after).order_by(logs.c.seq)
        with self._engine.connect() as connection:
            return [msgspec.json.decode(document, type=LogLine) for document in connection.execute(query).scalars()]
