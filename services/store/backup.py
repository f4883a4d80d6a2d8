"""The whole database as one file, and back: the same file from either database, byte for byte.

gzip of JSON lines: what it is, then `[table, row]` for every row in an order of its own, then how many there were.
Left out is who works now, and the API's keys: a backup is handed around, and one that is brought back would let in
again whoever was shut out since. Times are ISO 8601 in UTC, bytes base64, all else as JSON has it.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Table,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import DataError, IntegrityError

from services.domain.errors import BadInput, Conflict, Problem
from services.domain.text import LARGEST_INTEGER
from services.store.database import Database, migration_config
from services.store.tables import Document, UtcTime, Words, api_keys, documents, metadata, records, retention, workers

KIND = "enginebench-backup"
FORMAT = 1
#: Rows of one INSERT.
_BATCH = 200
#: Rows that are fetched at once, and inserted at once where each may be megabytes.
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
    with gzip.open(path, "rb") as packed, database.write() as connection:
        lines = _lines(path, packed)
        _, header = next(lines, (1, None))
        _make_ready(connection, _revision_of(path, header, connection))
        count = _fill(path, connection, lines)
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
    return [table for table in metadata.sorted_tables if table not in (workers, api_keys, retention)]


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


def _lines(path: Path, packed: gzip.GzipFile) -> Iterator[tuple[int, Any]]:
    """Numbered from 1."""
    try:
        for number, line in enumerate(packed, 1):
            yield number, json.loads(line)
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
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
    made = _columns_there(connection)
    held = [
        table.name
        for table in _tables()
        if table.name in made and connection.scalar(select(func.count()).select_from(table))
    ]
    if there != revision or held:
        found = f"holds {', '.join(held)}" if held else f"is of schema {there}, and the backup of {revision}"
        problem = Problem("database_url", f"the database {found}", "name a new one, which is made ready here")
        raise Conflict(f"{problem.problem}; {problem.mend}", (problem,))


def _fill(path: Path, connection: Connection, lines: Iterator[tuple[int, Any]]) -> int:
    """Every row into its table; how many."""
    count = 0
    for table, of_table in groupby(_rows(path, connection, lines), key=lambda line: line[0]):
        most = _FETCH if table in (records, documents) else _BATCH
        while batch := list(islice(of_table, most)):
            try:
                connection.execute(insert(table), [row for _, _, row in batch])
            except (IntegrityError, DataError) as error:
                first, last = batch[0][1], batch[-1][1]
                reason = str(error.orig).splitlines()[0]
                raise _no_backup(path, f"lines {first} to {last}, rows of {table.name}: {reason}") from None
            count += len(batch)
    return count


def _rows(
    path: Path, connection: Connection, lines: Iterator[tuple[int, Any]]
) -> Iterator[tuple[Table, int, dict[str, Any]]]:
    """(table, number of the line, row) of each; each row has all of its columns, and each value their type."""
    there = _columns_there(connection)
    tables = {table.name: table for table in _tables() if table.name in there}
    count = 0
    for number, line in lines:
        match line:
            case [str(name), dict(row)] if name in tables:
                if row.keys() != there[name]:
                    odd = ", ".join(sorted(row.keys() ^ there[name]))
                    raise _no_backup(path, f"line {number}, a row of {name}: it lacks, or has besides, {odd}")
                table = tables[name]
                yield table, number, {key: _read(path, number, table.c[key], value) for key, value in row.items()}
                count += 1
            case {"rows": told}:
                if told != count:
                    raise _no_backup(path, f"it is cut short: {count} rows of {told}")
                return
            case [str(name), _]:
                raise _no_backup(path, f"line {number}: there is no row of a table {name!r} in a backup")
            case _:
                raise _no_backup(path, f"line {number} is neither a row nor the count of them")
    raise _no_backup(path, "it is cut short: it does not say how many rows there are")


def _read(path: Path, number: int, column: Column[Any], value: Any) -> Any:
    """The value as its column takes it."""
    try:
        match value, column.type:
            case None, _ if column.nullable:
                return None
            case str(), UtcTime():
                return datetime.fromisoformat(value)
            case str(), LargeBinary():
                return b64decode(value, validate=True)
            case (str(), Words()) | (bool(), Boolean()) | (_, Document()):
                return value
            case ((int() | float()), (Integer() | Double())) if not isinstance(value, bool):
                if isinstance(column.type, Double) or (isinstance(value, int) and abs(value) <= LARGEST_INTEGER):
                    return value
    except ValueError:
        pass
    raise _no_backup(path, f"line {number}: {column.table.name}.{column.name} cannot be {str(value)[:40]!r}")


def _no_backup(path: Path, why: str) -> BadInput:
    return BadInput(
        Problem(str(path), f"is no whole backup: {why}", "give a file that `enginebench admin backup` made")
    )
