"""The queue: one row a run, taken under a lease together with every resource it occupies. For workers only.

Every comparison of times is made on the database's clock. A run's fence is (worker, attempt): each claim raises the
attempt, so what an earlier owner says is told from what the present one says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, insert, or_, select, tuple_, update

from services.store.database import Database, now
from services.store.lengths import RunNotPossible, spec_to_run
from services.store.rows import ENDED, ClaimedRun, Fence, Renewal, RunStatus
from services.store.searches import SearchBusy, advance, hold_search
from services.store.tables import attempts, resource_leases, run_resources, runs

#: A run whose attempts were lost this often ends as failed: it kills its workers.
MAX_LOST_ATTEMPTS = 5

#: Looks at the queue in one claim; another worker may be quicker each time, and the next poll is near.
_MOST_LOOKS = 100

#: Other rows of runs. Made once: to make one costs as much as the rest of a look at the queue.
_OTHER, _FELLOW, _GIVER = runs.alias("other"), runs.alias("fellow"), runs.alias("giver")

#: Run, its job, the attempt, its target's name, its start.
_Taken = tuple[str, str, int, str, int | None]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A Fence, before there is a ClaimedRun."""

    run_id: str
    attempt: int
    worker: str


class _Contended(Exception):
    """A resource was taken between our look and our grip; the transaction is given up and tried again."""


def claim(database: Database, worker: str, lease_s: float) -> ClaimedRun | None:
    """Take the first run whose resources are free: highest priority, then oldest; `None`: nothing to do.

    A run whose lease lapsed is taken over with its attempt raised; lost too often or cancelled, it is ended instead.
    """
    for _ in range(_MOST_LOOKS):
        try:
            with database.write() as connection:
                taken = _take_first(database, connection, worker, timedelta(seconds=lease_s))
        except (_Contended, SearchBusy):
            continue
        if taken is None:
            return None
        run_id, job_id, attempt, target, start = taken
        try:
            with database.read() as connection:
                spec = spec_to_run(connection, run_id, attempt)
                return ClaimedRun(run_id, job_id, attempt, worker, spec, target, start)
        except RunNotPossible as problem:
            with database.write() as connection:
                held = hold_search(connection, run_id)
                end_unrun(connection, run_id, RunStatus.FAILED, str(problem), now(connection))
                free(connection, run_id, attempt)
                if held is not None:
                    advance(connection, held)
    return None


def renew(database: Database, fence: Fence, progress: Mapping[str, Any] | None, lease_s: float) -> Renewal:
    """Keep the lease for another `lease_s` and say how far the run is.

    A lease that lapsed can still be renewed while nobody took the run or one of its resources.
    """
    with database.write() as connection:
        run = connection.execute(
            select(runs.c.cancel_requested, runs.c.resources).where(is_ours(fence)).with_for_update()
        ).one_or_none()
        if run is None:
            return Renewal(owned=False, cancel_requested=False)
        expires_at = now(connection) + timedelta(seconds=lease_s)
        held = connection.execute(
            update(resource_leases)
            .where(resource_leases.c.run_id == fence.run_id, resource_leases.c.attempt == fence.attempt)
            .values(expires_at=expires_at)
        ).rowcount
        if held != len(run.resources):
            return Renewal(owned=False, cancel_requested=run.cancel_requested)
        said = {} if progress is None else {"progress": dict(progress)}
        connection.execute(update(runs).where(runs.c.id == fence.run_id).values(lease_expires_at=expires_at, **said))
        return Renewal(owned=True, cancel_requested=run.cancel_requested)


def hold(database: Database, fence: Fence, resources: Iterable[str], lease_s: float) -> bool:
    """Occupy what the run's resources turn out to be where it is carried out, beside what it holds.

    Returns:
        False: one is taken. The run waits again, now for that one too.
    """
    with database.write() as connection:
        run = connection.execute(select(runs).where(is_ours(fence)).with_for_update()).one_or_none()
        if run is None:
            return False
        more = sorted({*resources} - {*run.resources})
        if not more:
            return True
        known = update(runs).where(runs.c.id == fence.run_id)
        connection.execute(known.values(resources=sorted({*run.resources, *more})))
        connection.execute(insert(run_resources), [{"run_id": fence.run_id, "resource": each} for each in more])
        moment = now(connection)
        if _grip(database, connection, more, fence, moment, moment + timedelta(seconds=lease_s)):
            return True
        _give_back(connection, fence, run.cancel_requested, moment)
        return False


def release(database: Database, fence: Fence) -> bool:
    """Give it back as queued, or cancelled where that was asked (a drained worker); False: it was no longer ours."""
    with database.write() as connection:
        moment = now(connection)
        run = connection.execute(select(runs.c.cancel_requested).where(is_ours(fence)).with_for_update()).one_or_none()
        if run is None:
            free(connection, fence.run_id, fence.attempt)
            end_attempt(connection, fence, "superseded", moment, over=("superseded",))
            return False
        _give_back(connection, fence, run.cancel_requested, moment)
        return True


def end_attempt(connection: Connection, fence: Fence, ended: str, moment: datetime, over: tuple[str, ...] = ()) -> None:
    """Say how an attempt ended, where nothing is said yet but one of `over`."""
    connection.execute(
        update(attempts)
        .where(attempts.c.run_id == fence.run_id, attempts.c.attempt == fence.attempt)
        .where(or_(attempts.c.ended.is_(None), attempts.c.ended.in_(over)))
        .values(ended=ended, ended_at=moment)
    )


def _give_back(connection: Connection, fence: Fence, cancel_requested: bool, moment: datetime) -> None:
    free(connection, fence.run_id, fence.attempt)
    end_attempt(connection, fence, "released", moment)
    if cancel_requested:
        end_unrun(connection, fence.run_id, RunStatus.CANCELLED, "cancelled", moment)
        return
    connection.execute(
        update(runs)
        .where(runs.c.id == fence.run_id)
        .values(status=RunStatus.QUEUED, worker=None, lease_expires_at=None, progress=None, started_at=None)
    )


def _take_first(database: Database, connection: Connection, worker: str, lease: timedelta) -> _Taken | None:
    moment = now(connection)
    while (run := connection.execute(_first_free(moment)).one_or_none()) is not None:
        if run.status == RunStatus.RUNNING:
            connection.execute(
                update(attempts)
                .where(attempts.c.run_id == run.id, attempts.c.attempt == run.attempt)
                .values(ended="lost", ended_at=moment)
            )
        lost = run.lost_attempts + (run.status == RunStatus.RUNNING)
        match why_not(connection, run, lost):
            case (status, reason):
                held = hold_search(connection, run.id, wait=False)
                end_unrun(connection, run.id, status, reason, moment)
                if held is not None:
                    advance(connection, held)
                continue
            case None:
                pass
        attempt = run.attempt + 1
        fence = _Claim(run.id, attempt, worker)
        if not _grip(database, connection, run.resources, fence, moment, moment + lease):
            raise _Contended
        begin_attempt(connection, fence, moment, moment + lease, lost)
        return run.id, run.job_id, attempt, run.target, run.start
    return None


def begin_attempt(connection: Connection, fence: Fence, moment: datetime, expires_at: datetime, lost: int) -> None:
    """It runs from now on. `lost`: attempts before it whose lease lapsed."""
    begun = update(runs).where(runs.c.id == fence.run_id)
    connection.execute(
        begun.values(
            status=RunStatus.RUNNING,
            attempt=fence.attempt,
            lost_attempts=lost,
            worker=fence.worker,
            started_at=moment,
            lease_expires_at=expires_at,
            progress=None,
        )
    )
    made = {"run_id": fence.run_id, "attempt": fence.attempt, "worker": fence.worker, "started_at": moment}
    connection.execute(insert(attempts).values(made))


def _first_free(moment: datetime) -> Any:
    """The first run that waits or lost its worker, whose resources nobody holds and whose lengths are known.

    Of a start, those of all its runs: an engine would be started anew for each run that comes to its lengths alone.
    """
    lapsed = and_(runs.c.status == RunStatus.RUNNING, runs.c.lease_expires_at <= moment)
    taken = exists().where(
        run_resources.c.run_id == runs.c.id,
        resource_leases.c.resource == run_resources.c.resource,
        resource_leases.c.expires_at > moment,
    )
    return (
        select(runs)
        .where(or_(runs.c.status == RunStatus.QUEUED, lapsed), ~taken, lengths_known(), _start_has_lengths())
        .order_by(runs.c.priority.desc(), runs.c.created_at, runs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def lengths_known() -> ColumnElement[bool]:
    """The run has its output lengths, or the one that gives them has ended."""
    ended = exists().where(_OTHER.c.id == runs.c.lengths_from, _OTHER.c.status.in_(ENDED))
    return or_(runs.c.lengths_from.is_(None), ended)


def _start_has_lengths() -> ColumnElement[bool]:
    """No run of the same start waits for lengths that another one is still to give."""
    # Told apart by a list that is made once: asked of each run anew, it takes as many looks as runs wait, squared.
    waiting = (
        select(_FELLOW.c.job_id, _FELLOW.c.target, _FELLOW.c.start)
        .join(_GIVER, _GIVER.c.id == _FELLOW.c.lengths_from)
        .where(_FELLOW.c.status == RunStatus.QUEUED, _FELLOW.c.start.is_not(None), _GIVER.c.status.not_in(ENDED))
    )
    return or_(runs.c.start.is_(None), tuple_(runs.c.job_id, runs.c.target, runs.c.start).not_in(waiting))


def why_not(connection: Connection, run: Row[Any], lost: int) -> tuple[RunStatus, str] | None:
    """How a run ends without being carried out; `None`: it can be."""
    if run.cancel_requested:
        return RunStatus.CANCELLED, "cancelled; its worker was lost before it stopped"
    if lost >= MAX_LOST_ATTEMPTS:
        return RunStatus.FAILED, f"its worker was lost {lost} times while it ran"
    if run.lengths_from is not None:
        status = connection.scalar(select(runs.c.status).where(runs.c.id == run.lengths_from))
        if status != RunStatus.COMPLETED:
            return RunStatus.FAILED, f"run {run.lengths_from}, whose output lengths it takes, ended as {status}"
    return None


def _grip(
    database: Database,
    connection: Connection,
    resources: Iterable[str],
    fence: Fence,
    moment: datetime,
    expires_at: datetime,
) -> bool:
    """Take every one, lapsed leases over; False: one is taken. Sorted, so that two claims never wait for each other."""
    lease = {"run_id": fence.run_id, "attempt": fence.attempt, "worker": fence.worker, "expires_at": expires_at}
    for resource in sorted(resources):
        taken = connection.execute(
            database.insert(resource_leases)
            .values(resource=resource, **lease)
            .on_conflict_do_update(
                index_elements=[resource_leases.c.resource], set_=lease, where=resource_leases.c.expires_at <= moment
            )
            .returning(resource_leases.c.resource)
        ).one_or_none()
        if taken is None:
            return False
    return True


def end_unrun(connection: Connection, run_id: str, status: RunStatus, reason: str, moment: datetime) -> None:
    """It ends without being carried out."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(status=status, error=reason, ended_at=moment, lease_expires_at=None)
    )


def free(connection: Connection, run_id: str, attempt: int) -> None:
    """Let go of what this attempt holds, and of nothing another attempt took over."""
    connection.execute(
        delete(resource_leases).where(resource_leases.c.run_id == run_id, resource_leases.c.attempt == attempt)
    )


def is_ours(fence: Fence) -> ColumnElement[bool]:
    """This attempt is the run's present one, and under way."""
    return and_(
        runs.c.id == fence.run_id,
        runs.c.worker == fence.worker,
        runs.c.attempt == fence.attempt,
        runs.c.status == RunStatus.RUNNING,
    )
