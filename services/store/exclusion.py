"""Runs that a person leaves out of rankings, and takes in again: the run stays, and what /metrics shows follows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, delete, select, update

from services.domain.errors import Conflict, Problem
from services.store.database import Database, now
from services.store.latest import labels_of, show_as_latest
from services.store.rows import ENDED, Run, RunStatus
from services.store.runs import read_run
from services.store.tables import latest_runs, runs, searches


def exclude_run(database: Database, run_id: str, note: str) -> Run:
    """Leave it out, or change why. Raises NotFound, and Conflict where it has not ended."""
    with database.write() as connection:
        run = _ended(connection, run_id)
        moment = run.excluded_at or now(connection)
        changed = update(runs).where(runs.c.id == run_id).values(excluded_at=moment, excluded_note=note)
        connection.execute(changed)
        connection.execute(delete(latest_runs).where(latest_runs.c.run_id == run_id))
        _show_newest(database, connection, run_id)
        return read_run(connection, run_id)


def include_run(database: Database, run_id: str) -> Run:
    """Let it count again. Raises NotFound, and Conflict where it has not ended."""
    with database.write() as connection:
        _ended(connection, run_id)
        connection.execute(update(runs).where(runs.c.id == run_id).values(excluded_at=None, excluded_note=None))
        _show_newest(database, connection, run_id)
        return read_run(connection, run_id)


def _ended(connection: Connection, run_id: str) -> Run:
    run = read_run(connection, run_id)
    if run.status not in ENDED:
        going_on = f"the run {run_id} is {run.status.value}, and only one that has ended is left out or taken in"
        raise Conflict(going_on, (Problem("run_id", going_on, "cancel it, or wait for its end"),))
    return run


def _show_newest(database: Database, connection: Connection, run_id: str) -> None:
    """The newest run with this run's labels is what /metrics shows of them."""
    of = connection.execute(select(runs).where(runs.c.id == run_id)).one()
    newest = connection.execute(_newest_like(of)).one_or_none()
    if newest is not None and newest.ended_at is not None:
        show_as_latest(database, connection, newest, newest.ended_at)


def _newest_like(run: Row[Any]) -> Select[Any]:
    """As `results.finish` has it: with a result, neither cancelled nor of a search."""
    labels = labels_of(run)
    hardware = runs.c.hardware.is_(None) if run.hardware is None else runs.c.hardware == run.hardware
    alike = [runs.c[name] == labels[name] for name in ("engine", "model", "workload", "target", "simulated")]
    of_a_search = select(searches.c.job_id).where(searches.c.job_id == runs.c.job_id).exists()
    return (
        select(runs)
        .where(*alike, hardware, runs.c.result_attempt.is_not(None), runs.c.excluded_at.is_(None), ~of_a_search)
        .where(runs.c.status != RunStatus.CANCELLED)
        .order_by(runs.c.ended_at.desc(), runs.c.id.desc())
        .limit(1)
    )
