"""A job's progress as server-sent events: a snapshot at every change, so that a late listener misses nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from anyio import sleep
from anyio.to_thread import run_sync

from services.domain.errors import ServiceError
from services.store.database import Database
from services.store.gauges import running_progress
from services.store.jobs import get_job
from services.store.keys import is_revoked
from services.store.rows import Job, Run

#: Between two looks at the database.
LOOK_EVERY_S = 0.5
#: Looks without a change after which a comment keeps the connection alive: 15 s.
QUIET_LOOKS = 30

_OVER = ("completed", "failed", "cancelled")


async def follow_job(
    store: Database,
    job_id: str,
    *,
    follow: bool = True,
    is_ending: Callable[[], bool] = lambda: False,
    key_id: str | None = None,
) -> AsyncIterator[str]:
    """`job` events until the job has ended, then one `end`; comments while nothing changes.

    Args:
        store: where the job is.
        job_id: a job that is there.
        follow: wait for its end; else one snapshot and no `end` unless it has ended.
        is_ending: the service is about to stop; the stream then breaks off, and the listener comes back.
        key_id: the stored key that opened it; once that is revoked it breaks off, and who comes back is refused.
    """
    said: dict[str, Any] | None = None
    number = 0
    quiet = 0
    while True:
        try:
            if key_id is not None and await run_sync(is_revoked, store, key_id):
                return
            now = await run_sync(_snapshot, store, job_id)
        except ServiceError:
            # Deleted, or the database is away: the listener comes back and learns which.
            return
        if now != said:
            number, quiet, said = number + 1, 0, now
            yield event("job", now, number)
        if now["status"] in _OVER and now["ended_at"] is not None:
            yield event("end", now, number + 1)
            return
        if not follow or is_ending():
            return
        quiet += 1
        if quiet % QUIET_LOOKS == 0:
            yield ": still there\n\n"
        await sleep(LOOK_EVERY_S)


def event(name: str, data: dict[str, Any], number: int) -> str:
    """One event on the wire."""
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def _snapshot(store: Database, job_id: str) -> dict[str, Any]:
    job = get_job(store, job_id)
    under_way = [run for run in running_progress(store) if run.job_id == job_id]
    return snapshot(job, under_way)


def snapshot(job: Job, under_way: list[Run]) -> dict[str, Any]:
    """How a job stands: its status, runs by status, and what runs now."""
    return {
        "job_id": job.id,
        "status": job.status,
        "counts": dict(job.counts),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
        "running": [
            {
                "run_id": run.id,
                "target": run.target,
                "workload": run.workload,
                "repeat": run.repeat,
                "attempt": run.attempt,
                "progress": dict(run.progress) if run.progress is not None else None,
            }
            for run in sorted(under_way, key=lambda r: r.position)
        ],
    }
