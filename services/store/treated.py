"""What the targets of one job were given, and what they said of themselves: one run of each, for the fairness check."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, select

from services.store.database import Database
from services.store.tables import documents, runs


def targets_in_job(database: Database, job_id: str) -> dict[str, dict[str, Any]]:
    """Target -> its TargetSpec as JSON, as its first run has it; in the job's order."""
    return _of_first(database, job_id, runs.c.target, documents.c.spec["target"])


def workloads_in_job(database: Database, job_id: str) -> dict[str, dict[str, Any]]:
    """Workload, its point left out -> its WorkloadSpec as JSON, as its first run has it; in the job's order."""
    return _of_first(database, job_id, func.coalesce(runs.c.series, runs.c.workload), documents.c.spec["workload"])


def attached_in_job(database: Database, job_id: str) -> set[str]:
    """Targets of the job whose server nobody starts."""
    return {name for name, spec in targets_in_job(database, job_id).items() if spec["reach"]["kind"] == "attached"}


def servers_in_job(database: Database, job_id: str) -> dict[str, dict[str, Any]]:
    """Target -> `environment["server"]` of its first run with a result; targets without any are not in it."""
    server = documents.c.result["environment"]["server"]
    return _of_first(database, job_id, runs.c.target, server, runs.c.result_attempt.is_not(None))


def _of_first(
    database: Database, job_id: str, name: ColumnElement[Any], what: ColumnElement[Any], *more: ColumnElement[bool]
) -> dict[str, dict[str, Any]]:
    """Name -> that part of the documents of the first run that bears it."""
    mine = (runs.c.job_id == job_id, *more)
    first = select(func.min(runs.c.position)).where(*mine).group_by(name).correlate(None)
    query = (
        select(name.label("name"), what.label("what"))
        .join(runs, runs.c.id == documents.c.run_id)
        .where(*mine, runs.c.position.in_(first))
        .order_by(runs.c.position)
    )
    with database.read() as connection:
        return {row.name: row.what for row in connection.execute(query) if row.what}
