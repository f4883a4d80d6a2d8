"""Jobs: asked for once, read often, cancelled. Their runs are the queue."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, case, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from engines.clock import wall_ns
from services.domain.errors import Conflict, NotFound, Problem
from services.domain.job import PlannedRun
from services.store.cursor import Keyset
from services.store.database import Database, now
from services.store.planned import insert_runs
from services.store.rows import ENDED, Job, Page, Run, RunStatus
from services.store.runs import cancel_where, has_label, run_from, select_runs
from services.store.searches import hold_searches, insert_searches
from services.store.tables import job_labels, jobs, runs


def enqueue(
    database: Database,
    *,
    spec: Mapping[str, Any],
    name: str,
    labels: Mapping[str, str],
    priority: int,
    runs: Sequence[PlannedRun],
    idempotency_key: str | None = None,
    body_digest: str = "",
    created_by: Mapping[str, Any] | None = None,
) -> tuple[Job, bool]:
    """Accept a job and queue its runs, in one transaction.

    Returns:
        The job, and whether it is new: the same key with the same body gives the job that is there.

    Raises:
        Conflict: the key was used with another body.
    """
    job: dict[str, Any] = {
        "id": _new_id(),
        "name": name,
        "spec": dict(spec),
        "labels": dict(labels),
        "priority": priority,
        "idempotency_key": idempotency_key,
        "body_digest": body_digest,
        "created_by": None if created_by is None else dict(created_by),
    }
    try:
        with database.write() as connection:
            if idempotency_key is not None and (there := _same_again(connection, idempotency_key, body_digest)):
                return there, False
            job["created_at"] = now(connection)
            connection.execute(insert(jobs), job)
            if labels:
                connection.execute(
                    insert(job_labels), [{"job_id": job["id"], "key": k, "value": v} for k, v in labels.items()]
                )
            insert_runs(connection, job, runs)
            insert_searches(connection, job["id"], spec, runs)
            return _read_job(connection, job["id"]), True
    except IntegrityError:
        # somebody else's job with this key came in between
        with database.read() as connection:
            if idempotency_key is not None and (there := _same_again(connection, idempotency_key, body_digest)):
                return there, False
        raise


def find_replayed(database: Database, idempotency_key: str, body_digest: str) -> Job | None:
    """The job this key and body made before; `None`: the key is new. Raises Conflict for another body."""
    with database.read() as connection:
        return _same_again(connection, idempotency_key, body_digest)


def get_job(database: Database, job_id: str) -> Job:
    """Raises NotFound."""
    with database.read() as connection:
        return _read_job(connection, job_id)


def runs_of_job(database: Database, job_id: str) -> list[Run]:
    """All runs of a job in their order. Raises NotFound."""
    with database.read() as connection:
        rows = connection.execute(select_runs().where(runs.c.job_id == job_id).order_by(runs.c.position)).mappings()
        found = [run_from(row) for row in rows]
        if not found:
            _read_job(connection, job_id)
        return found


def list_jobs(
    database: Database,
    *,
    status: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Job]:
    """Newest first. Raises BadInput for a cursor that is not ours."""
    query = select(jobs).where(*(has_label(jobs.c.id, key, value) for key, value in (labels or {}).items()))
    if status:
        query = query.where(_status_in_words().in_(status))
    order = Keyset("-created_at", jobs.c.created_at, jobs.c.id, descending=True)
    with database.read() as connection:
        rows, following = order.page(connection, query, limit, cursor)
        return Page(_jobs_from(connection, rows), following)


def cancel_job(database: Database, job_id: str) -> Job:
    """Cancel what is queued at once and ask what runs to stop. Raises NotFound. Again: no effect."""
    with database.write() as connection:
        hold_searches(connection, job_id)
        first = update(jobs).where(jobs.c.id == job_id, jobs.c.cancel_requested_at.is_(None))
        connection.execute(first.values(cancel_requested_at=now(connection)))
        cancel_where(connection, runs.c.job_id == job_id)
        return _read_job(connection, job_id)


def _new_id() -> str:
    """Sorts by creation: milliseconds, then chance."""
    return f"{wall_ns() // 1_000_000:012x}{secrets.token_hex(5)}"


def _same_again(connection: Connection, key: str, body_digest: str) -> Job | None:
    there = connection.execute(select(jobs.c.id, jobs.c.body_digest).where(jobs.c.idempotency_key == key)).one_or_none()
    if there is None:
        return None
    if there.body_digest != body_digest:
        used = f"the Idempotency-Key {key!r} was used for another body, in job {there.id}"
        raise Conflict(used, (Problem("Idempotency-Key", used, "send a new key with a new body"),))
    return _read_job(connection, there.id)


def _read_job(connection: Connection, job_id: str) -> Job:
    rows = list(connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings())
    if not rows:
        missing = f"there is no job {job_id!r}"
        raise NotFound(missing, (Problem("job_id", missing, "take one from GET /v1/jobs"),))
    return _jobs_from(connection, rows)[0]


def _jobs_from(connection: Connection, rows: Sequence[RowMapping]) -> tuple[Job, ...]:
    counted = connection.execute(
        select(runs.c.job_id, runs.c.status, func.count(), func.min(runs.c.started_at), func.max(runs.c.ended_at))
        .where(runs.c.job_id.in_([row["id"] for row in rows]))
        .group_by(runs.c.job_id, runs.c.status)
    ).all()
    by_job: dict[str, list[tuple[str, int, datetime | None, datetime | None]]] = {}
    for job_id, status, count, started, ended in counted:
        by_job.setdefault(job_id, []).append((status, count, started, ended))
    return tuple(_job_from(row, by_job.get(row["id"], [])) for row in rows)


def _job_from(row: RowMapping, counted: list[tuple[str, int, datetime | None, datetime | None]]) -> Job:
    counts = {status: count for status, count, _, _ in counted}
    started = [moment for _, _, moment, _ in counted if moment is not None]
    ended = [moment for _, _, _, moment in counted if moment is not None]
    status = job_status(counts)
    return Job(
        id=row["id"],
        name=row["name"],
        spec=row["spec"],
        labels=row["labels"],
        priority=row["priority"],
        created_at=row["created_at"],
        status=status,
        counts=counts,
        started_at=min(started, default=None),
        ended_at=max(ended, default=None) if status in ENDED else None,
        cancel_requested_at=row["cancel_requested_at"],
        idempotency_key=row["idempotency_key"],
        created_by=row["created_by"],
    )


def job_status(counts: Mapping[str, int]) -> str:
    """A job's status from its runs'; `_status_in_words` says the same to the database."""
    if counts.get(RunStatus.QUEUED) or counts.get(RunStatus.RUNNING):
        return RunStatus.QUEUED if set(counts) == {RunStatus.QUEUED} else RunStatus.RUNNING
    if counts.get(RunStatus.FAILED):
        return RunStatus.FAILED
    return RunStatus.CANCELLED if counts.get(RunStatus.CANCELLED) else RunStatus.COMPLETED


def _status_in_words() -> ColumnElement[str]:
    def any_run(*statuses: RunStatus) -> ColumnElement[bool]:
        return exists().where(runs.c.job_id == jobs.c.id, runs.c.status.in_(statuses))

    moving = any_run(RunStatus.QUEUED, RunStatus.RUNNING)
    begun = any_run(RunStatus.RUNNING, *ENDED)
    return case(
        (moving & begun, RunStatus.RUNNING),
        (moving, RunStatus.QUEUED),
        (any_run(RunStatus.FAILED), RunStatus.FAILED),
        (any_run(RunStatus.CANCELLED), RunStatus.CANCELLED),
        else_=RunStatus.COMPLETED,
    )
