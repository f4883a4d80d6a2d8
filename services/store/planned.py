"""Runs that wait, as rows: the queue's own part of a job, and what a search adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert

from bench_runner.plan.spec import Burst, ClosedLoop, WorkloadSpec, digest
from services.domain.job import PlannedRun
from services.store import tables
from services.store.rows import RunStatus
from services.store.tables import runs

#: Rows of one INSERT.
_BATCH = 500


def insert_runs(connection: Connection, job: Mapping[str, Any], planned: Sequence[PlannedRun]) -> None:
    """Queue them.

    Args:
        job: id, priority and created_at of the job they belong to; its place in the queue is theirs.
        planned: what they take their lengths from is among them.
    """
    ids = {run.position: f"{job['id']}-{run.position:05d}" for run in planned}
    # what a run takes its lengths from must be there first
    planned = sorted(planned, key=lambda run: (run.lengths_from is not None, run.position))
    for start in range(0, len(planned), _BATCH):
        batch = planned[start : start + _BATCH]
        connection.execute(insert(runs), [_run_row(job, run, ids) for run in batch])
        connection.execute(
            insert(tables.documents),
            [{"run_id": ids[run.position], "spec": run.spec.model_dump(mode="json"), "result": None} for run in batch],
        )
        held = [
            {"run_id": ids[run.position], "resource": resource}
            for run in batch
            for resource in sorted({*run.resources})
        ]
        if held:
            connection.execute(insert(tables.run_resources), held)


def _run_row(job: Mapping[str, Any], run: PlannedRun, ids: Mapping[int, str]) -> dict[str, Any]:
    target = run.spec.target
    return {
        "id": ids[run.position],
        "job_id": job["id"],
        "position": run.position,
        "priority": job["priority"],
        "status": RunStatus.QUEUED,
        "engine": target.engine,
        "model": target.model,
        "target": run.target_name,
        "workload": run.workload_name,
        "hardware": target.hardware,
        "precision": target.precision,
        "endpoint": target.endpoint,
        "flag_class": target.flag_class,
        "repeat": run.spec.repeat,
        "spec_digest": digest(run.spec),
        "resources": sorted({*run.resources}),
        "lengths_from": None if run.lengths_from is None else ids[run.lengths_from],
        "created_at": job["created_at"],
        "attempt": 0,
        "lost_attempts": 0,
        "cancel_requested": False,
        "reason_codes": [],
        "series": run.series,
        "point": run.point,
        "concurrency": _concurrency(run.spec.workload),
        "start": run.start,
        "burst": run.burst,
    }


def _concurrency(workload: WorkloadSpec) -> int | None:
    """Requests in flight at once; `None`: an open loop has no such number."""
    match workload.arrival:
        case ClosedLoop(concurrency=slots):
            return slots
        case Burst():
            return workload.requests
        case _:
            return None
