"""Runs as the history reads them: one, many, their records (the queue is in `queue`, the end in `results`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, exists, select, update

from services.domain.errors import BadInput, NotFound, Problem
from services.store import tables
from services.store.cursor import Keyset
from services.store.database import Database, now
from services.store.records import DROPPED, unpack
from services.store.rows import ENDED, Attempt, Page, Run, RunDetail, RunFilter, RunMetrics, RunStatus
from services.store.tables import runs

#: What a list of runs can be sorted by; "-" before the name: descending. Rows without a value come last either way.
SORT_FIELDS = (
    "created_at",
    "started_at",
    "ended_at",
    "duration_s",
    "input_tokens_per_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "ttft_p50_s",
    "ttft_p95_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "e2e_p50_s",
    "e2e_p99_s",
    "roofline_ratio",
    "output_tokens_per_s_per_gpu",
    "tokens_per_s_per_user_p50",
    "joules_per_output_token",
    "output_tokens_per_s_per_w",
)

_METRICS = tuple(RunMetrics.__dataclass_fields__)
#: Fields of Run that come as they are in the row.
_PLAIN = tuple(
    name
    for name in Run.__dataclass_fields__
    if name not in {"job_name", "labels", "status", "resources", "reason_codes", "metrics"}
)
#: Documents that lists do not show are not read for them.
_SHOWN = tuple(column for column in runs.c if column.name not in {"figures", "attained"})


def get_run(database: Database, run_id: str) -> RunDetail:
    """Raises NotFound."""
    with database.read() as connection:
        run = read_run(connection, run_id)
        document = connection.execute(select(tables.documents).where(tables.documents.c.run_id == run_id)).one()
        tries = connection.execute(
            select(tables.attempts).where(tables.attempts.c.run_id == run_id).order_by(tables.attempts.c.attempt)
        )
        of_run = (tables.records.c.run_id == run_id, tables.records.c.packing != DROPPED)
        kept = connection.scalar(select(tables.records.c.records).where(*of_run))
        return RunDetail(
            run=run,
            spec=document.spec,
            result=document.result,
            attempts=tuple(Attempt(t.attempt, t.worker, t.started_at, t.ended_at, t.ended) for t in tries),
            records=kept or 0,
        )


def list_runs(
    database: Database,
    where: RunFilter | None = None,
    *,
    sort: str = "-created_at",
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Run]:
    """A page of runs, stable under inserts: a cursor names the last row shown, not a count.

    Raises:
        BadInput: an unknown sort field, or a cursor that is not ours or belongs to another sort.
    """
    field = sort.removeprefix("-")
    if field not in SORT_FIELDS:
        raise BadInput(
            Problem(
                "sort", f"{field!r} is nothing to sort by", f"use one of {', '.join(SORT_FIELDS)}, '-' for descending"
            )
        )
    order = Keyset(sort, runs.c[field], runs.c.id, descending=sort.startswith("-"))
    query = select_runs().where(*_conditions(where or RunFilter()))
    with database.read() as connection:
        rows, following = order.page(connection, query, limit, cursor)
    return Page(tuple(run_from(row) for row in rows), following)


def get_records(database: Database, run_id: str) -> Iterator[dict[str, Any]]:
    """A run's request records in the order of the plan, one at a time; none where it has no result.

    Raises:
        NotFound: no such run, or retention let go of its records (raised at the call, not at the first record).
    """
    with database.read() as connection:
        read_run(connection, run_id)
        columns = (tables.records.c.packing, tables.records.c.data)
        kept = connection.execute(select(*columns).where(tables.records.c.run_id == run_id)).one_or_none()
    if kept is not None and kept.packing == DROPPED:
        gone = f"the request records of the run {run_id} were let go of; its result is kept"
        raise NotFound(gone, (Problem("run_id", gone, "see GET /v1/runs/{run_id}, or restore them from a backup"),))
    return unpack(kept.data) if kept is not None else iter(())


def cancel_run(database: Database, run_id: str) -> Run:
    """Queued: cancelled at once. Running: asked to stop. Ended: as it is. Raises NotFound."""
    with database.write() as connection:
        cancel_where(connection, runs.c.id == run_id)
        return read_run(connection, run_id)


def cancel_where(connection: Connection, which: ColumnElement[bool]) -> None:
    """Cancel what waits, and what runs without a living lease; ask what runs to stop."""
    # Each run is locked before it is looked at: a run that is taken up meanwhile would be missed by both updates.
    unended = select(runs.c.id).where(which, runs.c.status.not_in(ENDED)).order_by(runs.c.id)
    connection.execute(unended.with_for_update()).all()
    moment = now(connection)
    asked = update(runs).where(which, runs.c.status == RunStatus.RUNNING, runs.c.lease_expires_at > moment)
    connection.execute(asked.values(cancel_requested=True))
    lapsed = (runs.c.status == RunStatus.RUNNING) & (runs.c.lease_expires_at <= moment)
    ended = update(runs).where(which, (runs.c.status == RunStatus.QUEUED) | lapsed)
    connection.execute(
        ended.values(
            status=RunStatus.CANCELLED, cancel_requested=True, ended_at=moment, error="cancelled while nobody ran it"
        )
    )


def select_runs() -> Select[Any]:
    """Every column of a run that `run_from` wants."""
    return select(*_SHOWN, tables.jobs.c.name.label("job_name"), tables.jobs.c.labels.label("job_labels")).join(
        tables.jobs, tables.jobs.c.id == runs.c.job_id
    )


def read_run(connection: Connection, run_id: str) -> Run:
    """Raises NotFound."""
    row = connection.execute(select_runs().where(runs.c.id == run_id)).mappings().one_or_none()
    if row is None:
        missing = f"there is no run {run_id!r}"
        raise NotFound(missing, (Problem("run_id", missing, "take one from GET /v1/runs"),))
    return run_from(row)


def run_from(row: RowMapping) -> Run:
    """A row of `select_runs` as a Run."""
    return Run(
        **{name: row[name] for name in _PLAIN},
        job_name=row["job_name"],
        labels=row["job_labels"],
        status=RunStatus(row["status"]),
        resources=tuple(row["resources"]),
        reason_codes=tuple(row["reason_codes"]),
        metrics=RunMetrics(**{name: row[name] for name in _METRICS}),
    )


def _conditions(where: RunFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("engine", "model", "workload", "target", "hardware", "flag_class", "status", "validity"):
        if values := getattr(where, name):
            yield runs.c[name].in_(values)
    if where.job is not None:
        yield runs.c.job_id == where.job
    if where.simulated is not None:
        yield runs.c.simulated.is_(where.simulated)
    if where.excluded is not None:
        yield runs.c.excluded_at.is_not(None) if where.excluded else runs.c.excluded_at.is_(None)
    if where.since is not None:
        yield runs.c.created_at >= where.since
    if where.until is not None:
        yield runs.c.created_at < where.until
    for key, value in where.labels.items():
        yield has_label(runs.c.job_id, key, value)


def has_label(job_id: ColumnElement[str], key: str, value: str) -> ColumnElement[bool]:
    """The job carries this label."""
    labels = tables.job_labels.c
    return exists().where(labels.job_id == job_id, labels.key == key, labels.value == value)
