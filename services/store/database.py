"""The way into the database, SQLite or Postgres: connections, the database's own clock, migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

#: Longest wait for SQLite's one writer.
BUSY_TIMEOUT_S = 30.0

#: Any constant: the advisory lock under which one process migrates while others wait.
_MIGRATION_LOCK = 0x656E67696E6562


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Thread-safe; each process opens its own."""

    engine: Engine

    @property
    def dialect(self) -> str:
        """ "sqlite" or "postgresql"."""
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; on SQLite it takes the write lock at once, so it never fails half way."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection


def open_database(url: str) -> Database:
    """Open `sqlite:///path` or `postgresql://…`; nothing is asked of the server yet.

    Raises:
        BadInput: the URL is neither.
    """
    raise NotImplementedError


def migrate(url: str) -> None:
    """Bring the schema up to date. Safe at once from several processes: one migrates, the others wait."""
    raise NotImplementedError


def ping(database: Database) -> None:
    """Ask the database for something; raises `Unavailable` where it does not answer."""
    raise NotImplementedError


def close(database: Database) -> None:
    """Close all connections."""
    database.engine.dispose()


def now(connection: Connection) -> datetime:
    """The database's clock: what every lease is measured by."""
    raise NotImplementedError
