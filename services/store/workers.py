"""Heartbeats: which workers are there, what each does, and what its host has for it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from sqlalchemy import delete, select

from services.store.database import Database, now
from services.store.rows import WorkerHost, WorkerRow
from services.store.tables import workers

#: Of a worker that says nothing about its host.
UNTOLD = WorkerHost()

#: Heartbeats older than this are forgotten; one that was silent for longer is not shown.
_FORGET_AFTER = timedelta(days=1)


def beat(database: Database, worker: str, run_id: str | None, version: str, host: WorkerHost = UNTOLD) -> None:
    """Say that the worker is there, what it does, and what its host has for it."""
    with database.write() as connection:
        moment = now(connection)
        seen = {"seen_at": moment, "run_id": run_id, "version": version, **asdict(host)}
        row = database.insert(workers).values(name=worker, started_at=moment, **seen)
        connection.execute(row.on_conflict_do_update(index_elements=[workers.c.name], set_=seen))
        connection.execute(delete(workers).where(workers.c.seen_at < moment - _FORGET_AFTER))


def sign_off(database: Database, worker: str) -> None:
    """The worker has ended as it was told to: it is not missed."""
    with database.write() as connection:
        connection.execute(delete(workers).where(workers.c.name == worker))


def list_workers(database: Database) -> list[WorkerRow]:
    """Workers that were seen within the last day, the most recent first."""
    with database.read() as connection:
        moment = now(connection)
        query = select(workers).where(workers.c.seen_at >= moment - _FORGET_AFTER).order_by(workers.c.seen_at.desc())
        return [
            WorkerRow(
                name=row.name,
                started_at=row.started_at,
                seen_at=row.seen_at,
                silent_s=(moment - row.seen_at).total_seconds(),
                run_id=row.run_id,
                version=row.version,
                host=WorkerHost(row.open_files, row.state_free_bytes, row.state_size_bytes),
            )
            for row in connection.execute(query)
        ]
