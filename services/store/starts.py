"""An engine that is held up over several runs: what one of them holds goes over to the next, and nobody comes between.

The runs of one start have the same job, target and number of start. The first is claimed as any run is; each other one
is taken in the transaction that keeps the result of the one before it. So whoever waits for the card, of a higher
priority too, waits until the start has ended.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, insert, select, update

from services.store.database import Database, now
from services.store.lengths import RunNotPossible, spec_to_run
from services.store.queue import begin_attempt, end_unrun, is_ours, lengths_known, why_not
from services.store.rows import ClaimedRun, RunStatus
from services.store.tables import resource_leases, run_resources, runs


class StartOver(Exception):
    """No run of the start can follow; nothing was changed."""


def another_waits(database: Database, claimed: ClaimedRun) -> bool:
    """A further run of its start could be taken up after it."""
    if claimed.start is None:
        return False
    with database.read() as connection:
        return connection.execute(_waiting(claimed)).first() is not None


def pass_on(connection: Connection, claimed: ClaimedRun, lease_s: float) -> ClaimedRun:
    """Take up the next run of its start, with everything that this one holds.

    One whose row somebody else holds just now is passed over: it is being cancelled, most likely, and the card must not
    wait for that. Should that be given up, the run is carried out later, in a start of its own; it is not lost.

    Raises:
        StartOver: none waits, this one is no longer ours, or its lease has lapsed: its engine may be down by now. The
            transaction must be given up.
    """
    mine = select(runs.c.resources, runs.c.lease_expires_at).where(is_ours(claimed)).with_for_update()
    run = connection.execute(mine).one_or_none()
    moment = now(connection)
    if run is None or claimed.start is None or run.lease_expires_at <= moment:
        raise StartOver
    next_one = _waiting(claimed).with_for_update(skip_locked=True)
    while (following := connection.execute(next_one).one_or_none()) is not None:
        taken = _taken_up(connection, claimed, following, moment)
        if taken is None:
            continue
        expires_at = moment + timedelta(seconds=lease_s)
        _hand_over(connection, claimed, taken, run.resources, expires_at)
        begin_attempt(connection, taken, moment, expires_at, following.lost_attempts)
        return taken
    raise StartOver


def _waiting(claimed: ClaimedRun) -> Select[Any]:
    """The first run of its start that waits, and has its lengths."""
    mine = and_(runs.c.job_id == claimed.job_id, runs.c.target == claimed.target, runs.c.start == claimed.start)
    waits = and_(runs.c.status == RunStatus.QUEUED, runs.c.cancel_requested.is_(False), lengths_known())
    return select(runs).where(mine, waits).order_by(runs.c.position).limit(1)


def _taken_up(connection: Connection, claimed: ClaimedRun, following: Any, moment: datetime) -> ClaimedRun | None:
    """The run as it will be carried out; `None`: it cannot be, and has ended."""
    ends = why_not(connection, following, following.lost_attempts)
    if ends is None:
        attempt = following.attempt + 1
        try:
            spec = spec_to_run(connection, following.id, attempt)
            return ClaimedRun(
                following.id, following.job_id, attempt, claimed.worker, spec, claimed.target, claimed.start
            )
        except RunNotPossible as problem:
            ends = RunStatus.FAILED, str(problem)
    end_unrun(connection, following.id, *ends, moment)
    return None


def _hand_over(
    connection: Connection, held: ClaimedRun, taken: ClaimedRun, resources: list[str], expires_at: datetime
) -> None:
    """The leases change their run; what showed itself only when the first run was carried out goes along."""
    owned = and_(resource_leases.c.run_id == held.run_id, resource_leases.c.attempt == held.attempt)
    fence = {"run_id": taken.run_id, "attempt": taken.attempt, "expires_at": expires_at}
    if connection.execute(update(resource_leases).where(owned).values(fence)).rowcount != len(resources):
        raise StartOver
    known = set(
        connection.scalars(select(run_resources.c.resource).where(run_resources.c.run_id == taken.run_id)).all()
    )
    if known - {*resources}:
        raise StartOver
    if more := sorted({*resources} - known):
        connection.execute(insert(run_resources), [{"run_id": taken.run_id, "resource": each} for each in more])
        connection.execute(update(runs).where(runs.c.id == taken.run_id).values(resources=sorted(resources)))
