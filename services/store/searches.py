"""Searches: each run's end asks for the next, in the transaction that keeps the end.

Whoever ends a run of a search, or cancels its job, locks the search's row before those of its runs, so that neither
misses what the other does. The next run follows from all runs as they stand; while one waits or runs, none follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, and_, func, insert, select, update

from bench_runner.plan.spec import Limits, RunSpec
from services.domain.attainment import Attained
from services.domain.errors import BadInput
from services.domain.job import PlannedRun
from services.domain.search import Probe, ProbeResult, Search, next_step, outcomes
from services.domain.sweep import at_point
from services.store.database import Database
from services.store.planned import insert_runs
from services.store.rows import RunStatus
from services.store.tables import documents, jobs, runs, searches


class SearchBusy(Exception):
    """Somebody ends a run of this search, or cancels it; try again."""


@dataclass(frozen=True, slots=True)
class HeldSearch:
    """A search whose row this transaction holds."""

    job_id: str
    target: str
    series: str
    number: int


@dataclass(frozen=True, slots=True)
class SearchState:
    """How a search stands."""

    target: str
    series: str
    #: a Verdict as JSON; `None`: not decided
    verdict: Mapping[str, Any] | None
    #: runs so far; those that wait or run among them
    runs: int
    moving: int
    #: ValueOutcomes as they stand
    values: tuple[Any, ...]


def insert_searches(
    connection: Connection, job_id: str, spec: Mapping[str, Any], planned: Sequence[PlannedRun]
) -> None:
    """A row for each search of a job: its first runs say which there are."""
    if spec.get("search") is None:
        return
    rows = [
        {"job_id": job_id, "target": run.target_name, "series": run.series, "number": run.position} for run in planned
    ]
    connection.execute(insert(searches), rows)


def hold_search(connection: Connection, run_id: str, *, wait: bool = True) -> HeldSearch | None:
    """Lock the search that a run belongs to; `None`: it belongs to none. Before any of its runs is locked.

    Args:
        wait: for whoever holds it; must be False where a run is locked already.

    Raises:
        SearchBusy: somebody holds it, and `wait` is False.
    """
    mine = select(searches.c.job_id, searches.c.target, searches.c.series, searches.c.number).join(
        runs,
        and_(
            runs.c.job_id == searches.c.job_id,
            runs.c.target == searches.c.target,
            runs.c.series == searches.c.series,
        ),
    )
    found = connection.execute(mine.where(runs.c.id == run_id)).one_or_none()
    if found is None:
        return None
    row = and_(searches.c.job_id == found.job_id, searches.c.target == found.target, searches.c.series == found.series)
    locked = connection.execute(select(searches.c.number).where(row).with_for_update(skip_locked=not wait))
    if locked.one_or_none() is None:
        raise SearchBusy
    return HeldSearch(found.job_id, found.target, found.series, found.number)


def hold_searches(connection: Connection, job_id: str) -> None:
    """Lock every search of a job: until this transaction ends, no end of a run asks for another."""
    order = select(searches.c.number).where(searches.c.job_id == job_id).order_by(searches.c.number)
    connection.execute(order.with_for_update())


def advance(connection: Connection, held: HeldSearch) -> None:
    """A run of the search has ended: queue the next, or keep the verdict. Again: no effect."""
    job = connection.execute(select(jobs).where(jobs.c.id == held.job_id)).one()
    decided = connection.scalar(select(searches.c.verdict).where(_row_of(held)))
    so_far = _runs_of(connection, held)
    # A person who cancels a run wants no other in its place.
    stopped = {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLED}
    if decided is not None or job.cancel_requested_at is not None or stopped & {run.status for run in so_far}:
        return
    try:
        search = Search.model_validate(job.spec["search"])
        run_timeout_s = Limits.model_validate(job.spec.get("limits") or {}).run_timeout_s
        step = next_step(search, [_probe_result(run) for run in so_far], run_timeout_s)
        if isinstance(step, Probe):
            planned = _planned(connection, held, search, step, so_far)
            insert_runs(connection, {"id": job.id, "priority": job.priority, "created_at": job.created_at}, [planned])
            return
        verdict = step.to_json()
    except (BadInput, ValidationError) as error:
        verdict = {"state": "inconclusive", "words": f"the search stopped: {error}"}
    connection.execute(update(searches).where(_row_of(held)).values(verdict=verdict))


def searches_of_job(database: Database, job_id: str) -> list[SearchState]:
    """The job's searches in its order; none where it has none."""
    with database.read() as connection:
        rows = connection.execute(select(searches).where(searches.c.job_id == job_id).order_by(searches.c.number)).all()
        if not rows:
            return []
        spec = connection.scalar(select(jobs.c.spec).where(jobs.c.id == job_id)) or {}
        found = []
        for row in rows:
            so_far = _runs_of(connection, HeldSearch(row.job_id, row.target, row.series, row.number))
            moving = sum(run.status in (RunStatus.QUEUED, RunStatus.RUNNING) for run in so_far)
            values: tuple[Any, ...] = ()
            if row.verdict is None:
                ended = [run for run in so_far if run.status in (RunStatus.COMPLETED, RunStatus.FAILED)]
                values = outcomes(Search.model_validate(spec["search"]), [_probe_result(run) for run in ended])
            found.append(SearchState(row.target, row.series, row.verdict, len(so_far), moving, values))
        return found


def _row_of(held: HeldSearch) -> Any:
    return and_(searches.c.job_id == held.job_id, searches.c.target == held.target, searches.c.series == held.series)


def _runs_of(connection: Connection, held: HeldSearch) -> Sequence[Any]:
    columns = (runs.c.id, runs.c.position, runs.c.point, runs.c.status, runs.c.validity, runs.c.attained, runs.c.error)
    mine = and_(runs.c.job_id == held.job_id, runs.c.target == held.target, runs.c.series == held.series)
    return connection.execute(select(*columns, runs.c.resources).where(mine).order_by(runs.c.position)).all()


def _probe_result(run: Any) -> ProbeResult:
    said = run.attained
    if said is None or run.status != RunStatus.COMPLETED:
        codes: tuple[str, ...] = ("failed",) if said is None else tuple(said["codes"])
        return ProbeResult(run.point, None, False, codes, run.error or (said or {}).get("why", "no result"))
    attained = Attained(said["requests"], said["met"], said["effective"])
    return ProbeResult(run.point, attained, run.validity == "VALID", tuple(said["codes"]), said["why"])


def _planned(
    connection: Connection, held: HeldSearch, search: Search, probe: Probe, so_far: Sequence[Any]
) -> PlannedRun:
    """The run that a probe is: as the one before it, at another point, with prompts and arrivals of its own."""
    before = so_far[-1]
    spec = RunSpec.model_validate(connection.scalar(select(documents.c.spec).where(documents.c.run_id == before.id)))
    workload = at_point(spec.workload, search, probe.value, base=held.series, requests=probe.requests)
    beside = connection.scalar(select(func.count()).where(searches.c.job_id == held.job_id)) or 1
    return PlannedRun(
        position=held.number + len(so_far) * beside,
        spec=spec.model_copy(update={"workload": workload, "repeat": len(so_far)}),
        target_name=held.target,
        workload_name=workload.name,
        resources=tuple(before.resources),
        series=held.series,
        point=probe.value,
    )
