"""What /metrics and /readyz read at each scrape: few rows, whatever the history's length."""

from __future__ import annotations

from sqlalchemy import func, select

from services.store.database import Database
from services.store.rows import Run, RunStatus
from services.store.runs import run_from, select_runs
from services.store.tables import latest_runs, runs


def latest_for_metrics(database: Database, most: int) -> tuple[list[Run], int]:
    """The newest run with a result for each (engine, model, workload, target, hardware, simulated); none cancelled.

    Returns:
        The `most` that ended last, and how many there are beyond them.
    """
    newest = (
        select(latest_runs.c.run_id).order_by(latest_runs.c.ended_at.desc(), latest_runs.c.run_id.desc()).limit(most)
    )
    with database.read() as connection:
        query = select_runs().where(runs.c.id.in_(newest))
        shown = [run_from(row) for row in connection.execute(query).mappings()]
        there = connection.scalar(select(func.count()).select_from(latest_runs)) or 0
    return shown, there - len(shown)


def queue_depth(database: Database) -> int:
    """Runs that wait."""
    with database.read() as connection:
        return connection.scalar(select(func.count()).where(runs.c.status == RunStatus.QUEUED)) or 0


def state_counts(database: Database) -> dict[str, int]:
    """Run status -> count; every status is there."""
    with database.read() as connection:
        counted = connection.execute(select(runs.c.status, func.count()).group_by(runs.c.status)).all()
    counts = {status.value: 0 for status in RunStatus}
    for status, count in counted:
        counts[status] = count
    return counts


def running_progress(database: Database) -> list[Run]:
    """Runs under way, with their progress."""
    with database.read() as connection:
        query = select_runs().where(runs.c.status == RunStatus.RUNNING).order_by(runs.c.started_at)
        return [run_from(row) for row in connection.execute(query).mappings()]
