"""State: one SQLite file in DATA_DIR, reached through SQLAlchemy Core.

One process, one event loop, one connection: a handler that does not await inside a transaction is atomic. A commit is
in the write-ahead log, thus in the kernel, before the write is acknowledged, so it survives ``kill -9`` of the process
and of its container.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.pool import StaticPool

from turbo_services.common.settings import SettingsError


def open_database(data_dir: str, service: str, metadata: MetaData) -> Engine:
    """Open ``data_dir/<service>.sqlite3``, making what is missing.

    Raises:
        SettingsError: the directory or the file cannot be written.
    """
    path = Path(data_dir) / f"{service}.sqlite3"
    engine = create_engine(
        f"sqlite+pysqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _tune(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata.create_all(engine)
    except Exception as error:
        raise SettingsError(f"DATA_DIR={data_dir!r}: {path} cannot be opened: {error}") from error
    return engine
