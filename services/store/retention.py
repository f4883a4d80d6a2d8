"""Request records are kept for as long as a person wants them; a run's row, spec and result are kept for ever.

A person lets go of them at once (`drop_records`), or workers do it by themselves, a small batch between two runs
(`sweep`): one pass a day, which any worker may go on with, and only one at a time does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from services.store.database import Database, now
from services.store.records import DROPPED
from services.store.rows import ENDED
from services.store.tables import records, retention, runs

#: Runs whose records go in one transaction, so that no worker waits for long.
BATCH = 50
#: From the end of one pass to the next.
EVERY = timedelta(days=1)
_KIND = "records"
_EMPTY = {"begun_at": None, "ended_at": None, "after": "", "runs": 0, "size_bytes": 0}


@dataclass(frozen=True, slots=True)
class Dropped:
    """What went, or would go."""

    runs: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What workers let go of by themselves."""

    #: since there is this table
    dropped: Dropped
    #: end of the last whole pass; `None`: there was none
    ended_at: datetime | None
    #: why the last try failed; `None`: it did not
    error: str | None


def drop_records(database: Database, older_than: timedelta, *, dry_run: bool = False) -> Dropped:
    """Let go of the records of runs that ended longer ago; that there were some stays known.

    Those whose output lengths another run still wants are kept.
    """
    with database.read() as connection:
        found = connection.execute(_old(now(connection) - older_than)).all()
    for start in range(0, 0 if dry_run else len(found), BATCH):
        with database.write() as connection:
            _drop(connection, found[start : start + BATCH])
    return _sum(found)


def sweep(database: Database, older_than: timedelta, every: timedelta = EVERY, batch: int = BATCH) -> Dropped | None:
    """One batch of the pass that is due; `None`: none is, or another worker is at it just now.

    A pass is due when the last one ended `every` ago; it is over with the batch that is not full.
    """
    with database.read() as connection:
        moment = now(connection)
        before = connection.execute(select(retention).where(retention.c.kind == _KIND)).one_or_none()
        goes_on = before is not None and _goes_on(before)
        if before is not None and not goes_on and before.ended_at is not None and before.ended_at > moment - every:
            return None
        after = before.after if before is not None and goes_on else ""
        found = connection.execute(_old(moment - older_than).where(runs.c.id > after).limit(batch)).all()
    with database.write() as connection:
        at = _gripped(database, connection)
        if at is None or _place(at) != _place(before):
            return None
        gone = _drop(connection, found)
        said: dict[str, Any] = {"runs": at.runs + gone.runs, "size_bytes": at.size_bytes + gone.size_bytes}
        if not goes_on:
            said["begun_at"] = moment
        said["after"] = found[-1].run_id if found else after
        if len(found) < batch:
            said |= {"ended_at": max(now(connection), said.get("begun_at") or at.begun_at), "after": "", "error": None}
        connection.execute(update(retention).where(retention.c.kind == _KIND).values(said))
    return gone


def note_failure(database: Database, error: str) -> None:
    """Say that a pass failed, for the alert; the next whole pass takes it back."""
    with database.write() as connection:
        if _gripped(database, connection) is not None:
            said = {"failed_at": now(connection), "error": error}
            connection.execute(update(retention).where(retention.c.kind == _KIND).values(said))


def retention_so_far(database: Database) -> Retention:
    """What went until now, and how the last pass did."""
    with database.read() as connection:
        row = connection.execute(select(retention).where(retention.c.kind == _KIND)).one_or_none()
    if row is None:
        return Retention(Dropped(0, 0), None, None)
    return Retention(Dropped(row.runs, row.size_bytes), row.ended_at, row.error)


def _old(before: datetime) -> Select[Any]:
    """Runs that ended before then and still have records that no other run wants, by their ids."""
    other = runs.alias()
    wanted = select(other.c.id).where(other.c.lengths_from == runs.c.id, other.c.status.not_in(ENDED)).exists()
    return (
        select(records.c.run_id, func.length(records.c.data).label("size_bytes"))
        .join(runs, runs.c.id == records.c.run_id)
        .where(records.c.packing != DROPPED, runs.c.ended_at < before, ~wanted)
        .order_by(records.c.run_id)
    )


def _drop(connection: Connection, found: Sequence[Row[Any]]) -> Dropped:
    if found:
        gone = update(records).where(records.c.run_id.in_([row.run_id for row in found]))
        connection.execute(gone.values(packing=DROPPED, data=b""))
    return _sum(found)


def _sum(found: Sequence[Row[Any]]) -> Dropped:
    return Dropped(len(found), sum(row.size_bytes for row in found))


def _gripped(database: Database, connection: Connection) -> Row[Any] | None:
    """The row, nobody else's until this transaction ends; `None`: it is another worker's."""
    made = database.insert(retention).values(kind=_KIND, **_EMPTY)
    connection.execute(made.on_conflict_do_nothing(index_elements=[retention.c.kind]))
    mine = select(retention).where(retention.c.kind == _KIND).with_for_update(skip_locked=True)
    return connection.execute(mine).one_or_none()


def _goes_on(row: Row[Any]) -> bool:
    return row.begun_at is not None and (row.ended_at is None or row.begun_at > row.ended_at)


def _place(row: Row[Any] | None) -> tuple[datetime | None, datetime | None, str]:
    return (None, None, "") if row is None else (row.begun_at, row.ended_at, row.after)
