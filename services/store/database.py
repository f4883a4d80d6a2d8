"""The way into the database, SQLite or Postgres: connections, the database's own clock, migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from engines.clock import sleep_s
from services.domain.errors import BadInput, Problem, Unavailable
from services.store.patience import PatientConnection, connect_arguments

#: Longest wait for SQLite's one writer.
BUSY_TIMEOUT_S = 30.0

#: Connections that are kept open, and as many again in a rush.
POOL_SIZE = 10
#: Longest wait for one of them: a person is told rather than kept.
POOL_TIMEOUT_S = 10.0

#: Any constant: the advisory lock under which one process migrates while others wait.
_MIGRATION_LOCK = 0x656E67696E65


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
        """A transaction that only reads. Raises Unavailable where the database does not answer."""
        with _outages_named(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that reads everything as it was at one moment, however long it takes."""
        with _outages_named(), self.engine.connect() as plain:
            connection = plain
            if self.dialect == "postgresql":
                connection = plain.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; on SQLite it takes the write lock at once, so it never fails half way."""
        with _outages_named(), self.engine.connect() as plain:
            connection = plain.execution_options(writes=True)
            with connection.begin():
                yield connection

    def insert(self, table: Table) -> Any:
        """INSERT in the dialect's own words, so that it has `on_conflict_do_update`."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)


def open_database(url: str, *, timeout_s: float | None = None) -> Database:
    """Open `sqlite:///path` or `postgresql://…`; nothing is asked of the server yet.

    Args:
        url: where it is.
        timeout_s: longest wait for one answer of Postgres; `None`: as long as it takes, for migrations, backups and
            what else may be long.

    Raises:
        BadInput: the URL is neither.
    """
    mend = "use sqlite:///path/to/file.sqlite or postgresql://user:password@host:5432/name"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadInput(Problem("database_url", "is not a database URL", mend)) from None
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                parsed.set(drivername="sqlite+pysqlite"),
                pool_size=POOL_SIZE,
                pool_timeout=POOL_TIMEOUT_S,
                connect_args={"timeout": BUSY_TIMEOUT_S},
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        case "postgresql":
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                pool_size=POOL_SIZE,
                pool_timeout=POOL_TIMEOUT_S,
                connect_args=connect_arguments(parsed, timeout_s),
            )
            event.listen(engine, "do_connect", _connector(timeout_s))
        case "sqlite":
            raise BadInput(Problem("database_url", "a database in memory cannot be shared between processes", mend))
        case other:
            raise BadInput(Problem("database_url", f"{other} is not a database we speak to", mend))
    return Database(engine)


def migrate(url: str) -> None:
    """Bring the schema up to date. Safe at once from several processes: one migrates, the others wait."""
    database = open_database(url)
    try:
        with database.write() as connection:
            if database.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            command.upgrade(migration_config(connection), "head")
    finally:
        close(database)


def migration_config(connection: Connection) -> Config:
    """Alembic's configuration for work on an open connection; no alembic.ini, so that it runs from a wheel."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def ping(database: Database) -> None:
    """Raises Unavailable where the database does not answer or holds no schema of ours."""
    with database.read() as connection:
        try:
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        except (ProgrammingError, OperationalError) as error:
            # SQLite has no error of its own for a table that is not there.
            if isinstance(error, OperationalError) and "no such table" not in str(error.orig):
                raise
            raise Unavailable("the database is not migrated: run `enginebench migrate`") from None


def close(database: Database) -> None:
    """Close all connections."""
    database.engine.dispose()


def now(connection: Connection) -> datetime:
    """The database's clock: what every lease is measured by."""
    if connection.dialect.name == "sqlite":
        stamp = connection.exec_driver_sql("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").scalar_one()
        return datetime.fromisoformat(stamp).replace(tzinfo=UTC)
    moment: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return moment.astimezone(UTC)


@contextmanager
def _outages_named() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        # every connection waits for a slow database, or for its one writer
        raise Unavailable("the database does not answer: all connections to it are in use") from error
    except (OperationalError, InterfaceError) as error:
        if not _is_outage(error.orig):
            raise
        # the driver's first line; SQLAlchemy's own text would carry the statement and its values
        reason = str(error.orig).splitlines()[0]
        if _is_full(error.orig):
            mend = "free some space where the database is (ENGINEBENCH_DATABASE_URL)"
            raise Unavailable(f"the database's disk is full: {reason}", (Problem("", reason, mend),)) from error
        raise Unavailable(f"the database does not answer: {reason}") from error


def _is_full(error: BaseException | None) -> bool:
    match error:
        case sqlite3.OperationalError(sqlite_errorcode=sqlite3.SQLITE_FULL):
            return True
        case psycopg.Error(sqlstate="53100"):  # disk_full
            return True
    return False


def _is_outage(error: BaseException | None) -> bool:
    """It may go away by itself; a value that no column takes does not, and must not be tried for ever."""
    match error:
        case sqlite3.Error():
            return isinstance(error, sqlite3.OperationalError)
        case psycopg.Error():
            # class 54: a row or an index entry too large
            return not (error.sqlstate or "").startswith("54")
    return True


def _connector(timeout_s: float | None) -> Callable[..., PatientConnection]:
    def connect(_dialect: object, _record: object, words: list[Any], given: dict[str, Any]) -> PatientConnection:
        connection = PatientConnection.connect(*words, **given)
        connection.timeout_s = timeout_s
        return connection

    return connect


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # the driver must not begin transactions by itself: it would begin them deferred, and fail at the first write
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=NORMAL")
    # turning to WAL ignores the busy timeout, and two processes may start at once
    for _ in range(200):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            sleep_s(0.05)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
