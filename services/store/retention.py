"""Request records are kept for as long as a person wants them; a run's row, spec and result are kept for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update

from services.store.database import Database, now
from services.store.records import DROPPED
from services.store.rows import ENDED
from services.store.tables import records, runs

#: Runs whose records go in one transaction, so that no worker waits for long.
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Dropped:
    """What went, or would go."""

    runs: int
    size_bytes: int


def drop_records(database: Database, older_than: timedelta, *, dry_run: bool = False) -> Dropped:
    """Let go of the records of runs that ended longer ago; that there were some stays known.

    Those whose output lengths another run still wants are kept.
    """
    other = runs.alias()
    wanted = select(other.c.id).where(other.c.lengths_from == runs.c.id, other.c.status.not_in(ENDED)).exists()
    with database.read() as connection:
        before = now(connection) - older_than
        old = (
            select(records.c.run_id, func.length(records.c.data).label("size_bytes"))
            .join(runs, runs.c.id == records.c.run_id)
            .where(records.c.packing != DROPPED, runs.c.ended_at < before, ~wanted)
            .order_by(records.c.run_id)
        )
        found = connection.execute(old).all()
    for start in range(0, 0 if dry_run else len(found), _BATCH):
        ids = [row.run_id for row in found[start : start + _BATCH]]
        with database.write() as connection:
            gone = update(records).where(records.c.run_id.in_(ids))
            connection.execute(gone.values(packing=DROPPED, data=b""))
    return Dropped(len(found), sum(row.size_bytes for row in found))
