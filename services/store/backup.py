"""The whole database as one file, and back: the same file from either database, byte for byte.

gzip of JSON lines: what it is, then `[table, row]` for every row in an order of its own, then how many there were.
Left out is only who works now. Times are ISO 8601 in UTC, bytes base64, all else as JSON has it.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, LargeBinary, Table, func, insert, inspect, select

from services.domain.errors import BadInput, Conflict, Problem
from services.store.database import Database, migration_config
from services.store.tables import UtcTime, metadata, workers

KIND = "enginebench-backup"
FORMAT = 1
#: Rows of one INSERT.
_BATCH = 200
#: Rows that are fetched at once; those of `records` may be megabytes each.
_FETCH = 20


def write_backup(database: Database, path: Path) -> int:
    """Everything as it is at one moment, others working on. The file is whole or not there.

    A database that is not migrated to this version yet is taken as it is.

    Returns:
        How many rows.

    Raises:
        BadInput: the database is of a newer version.
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as raw:
            # Neither the file's name nor the time goes in: the same rows give the same bytes.
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, database.snapshot() as connection:
                count = _write(connection, packed)
            raw.flush()
            os.fsync(raw.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return count


def restore_backup(database: Database, path: Path) -> int:
    """Fill a database that is new, and bring it up to this version. All of it or nothing.

    Returns:
        How many rows.

    Raises:
        BadInput: the file is no backup, is cut short, or is of a newer version.
        Conflict: there is something in the database.
        OSError: the file cannot be read.
    """
    count = 0
    with gzip.open(path, "rb") as packed, database.write() as connection:
        lines = _lines(path, packed)
        revision = _revision_of(path, next(lines, None), connection)
        _make_ready(connection, revision)
        told = None
        rows = iter(lines)
        for name, of_table in groupby(rows, key=lambda line: line[0] if isinstance(line, list) else None):
            if name is None:
                told = next(of_table).get("rows")
                break
            count += _fill(path, connection, name, (row for _, row in of_table))
        if told != count:
            raise _no_backup(path, f"it is cut short: {count} rows of {told}")
        command.upgrade(migration_config(connection), "head")
    return count


def _write(connection: Connection, packed: gzip.GzipFile) -> int:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision not in _known_revisions(connection):
        raise _not_ours(revision)
    _write_line(packed, {"kind": KIND, "format": FORMAT, "revision": revision})
    count = 0
    there = _columns_there(connection)
    for table in _tables():
        if table.name not in there:
            continue
        if there[table.name] - set(table.c.keys()):
            raise _not_ours(revision)
        asked = _in_order(table, there[table.name], connection)
        rows = connection.execution_options(stream_results=True, yield_per=_FETCH).execute(asked)
        for row in rows.mappings():
            _write_line(packed, [table.name, {name: _plain(value) for name, value in row.items()}])
            count += 1
    _write_line(packed, {"rows": count})
    return count


def _tables() -> list[Table]:
    """What rows name comes before them."""
    return [table for table in metadata.sorted_tables if table is not workers]


def _columns_there(connection: Connection) -> dict[str, set[str]]:
    """Names of columns by table: before a migration there are fewer than this version knows."""
    found = inspect(connection).get_multi_columns()
    return {table: {column["name"] for column in columns} for (_, table), columns in found.items()}


def _not_ours(revision: str | None) -> BadInput:
    # A column unknown to this version would be left out unsaid.
    problem = f"the database's schema {revision!r} is not one that this version can copy whole"
    return BadInput(Problem("database_url", problem, "back it up with the version that made it"))


def _in_order(table: Table, there: set[str], connection: Connection) -> Any:
    """By the key's bytes, whatever the database's language; runs that take their lengths from others after those."""
    keys: list[Any] = []
    for column in table.primary_key.columns:
        is_text = column.type.python_type is str
        keys.append(column.collate("C") if is_text and connection.dialect.name == "postgresql" else column)
    first = [table.c.lengths_from.is_not(None)] if "lengths_from" in table.c else []
    return select(*(column for column in table.c if column.name in there)).order_by(*first, *keys)


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case bytes():
            return b64encode(value).decode()
        case _:
            return value


def _write_line(packed: gzip.GzipFile, value: object) -> None:
    packed.write(json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _lines(path: Path, packed: gzip.GzipFile) -> Iterator[Any]:
    try:
        for line in packed:
            yield json.loads(line)
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise _no_backup(path, str(error)) from None


def _revision_of(path: Path, header: Any, connection: Connection) -> str:
    if not isinstance(header, dict) or header.get("kind") != KIND or header.get("format") != FORMAT:
        raise _no_backup(path, "it does not say that it is one")
    if header.get("revision") not in _known_revisions(connection):
        raise _no_backup(path, f"its schema {header.get('revision')!r} is of a newer version: restore it with that one")
    return str(header["revision"])


def _known_revisions(connection: Connection) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(migration_config(connection)).walk_revisions()}


def _make_ready(connection: Connection, revision: str) -> None:
    """The schema that the backup has, without a row. Raises Conflict."""
    there = MigrationContext.configure(connection).get_current_revision()
    if there is None:
        command.upgrade(migration_config(connection), revision)
        return
    held = [table.name for table in _tables() if connection.scalar(select(func.count()).select_from(table))]
    if there != revision or held:
        found = f"holds {', '.join(held)}" if held else f"is of schema {there}, and the backup of {revision}"
        problem = Problem("database_url", f"the database {found}", "name a new one, which is made ready here")
        raise Conflict(f"{problem.problem}; {problem.mend}", (problem,))


def _fill(path: Path, connection: Connection, name: str, rows: Iterator[dict[str, Any]]) -> int:
    table = metadata.tables.get(name)
    if table is None:
        raise _no_backup(path, f"there is no table {name!r}")
    count = 0
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append({column: _read(table, column, value) for column, value in row.items()})
        if len(batch) == _BATCH:
            connection.execute(insert(table), batch)
            count, batch = count + len(batch), []
    if batch:
        connection.execute(insert(table), batch)
    return count + len(batch)


def _read(table: Table, column: str, value: Any) -> Any:
    if value is None:
        return None
    match table.c[column].type:
        case UtcTime():
            return datetime.fromisoformat(value)
        case LargeBinary():
            return b64decode(value)
        case _:
            return value


def _no_backup(path: Path, why: str) -> BadInput:
    return BadInput(
        Problem(str(path), f"is no whole backup: {why}", "give a file that `enginebench admin backup` made")
    )
