"""Runs with results, put into a store as a worker would: queued, claimed, finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench_runner.measure.record import to_json
from bench_runner.plan.spec import RunSpec
from services.domain.job import PlannedRun
from services.store.database import Database
from services.store.jobs import enqueue
from services.store.queue import claim
from services.store.results import finish
from services.store.rows import ClaimedRun
from tests.fakes.records import make_record
from tests.fakes.results import make_result


def queue_job(
    database: Database,
    *results: Mapping[str, Any],
    names: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
) -> str:
    """A job with one queued run for each result's spec; its id. `names`: of the targets, else the engines'."""
    specs = [RunSpec.model_validate(result["spec"]) for result in results]
    targets = list(names) or [spec.target.engine for spec in specs]
    runs = [
        PlannedRun(k, spec, target, spec.workload.name, (f"server:{target}",))
        for k, (spec, target) in enumerate(zip(specs, targets, strict=True))
    ]
    job, _ = enqueue(
        database,
        spec={"targets": targets, "workloads": [spec.workload.name for spec in specs]},
        name="history",
        labels=labels or {},
        priority=0,
        runs=runs,
    )
    return job.id


def take(database: Database) -> ClaimedRun:
    """The next run of the queue, leased."""
    claimed = claim(database, "test-worker", 60.0)
    assert claimed is not None
    return claimed


def add_runs(database: Database, *results: Mapping[str, Any], **job: Any) -> list[str]:
    """A job whose runs have ended with these results, two records each; their ids."""
    queue_job(database, *results, **job)
    ids = []
    for result in results:
        claimed = take(database)
        records = [to_json(make_record(k)) for k in range(2)]
        assert finish(database, claimed, result, records)
        ids.append(claimed.run_id)
    return ids


def one_run(database: Database, **result: Any) -> str:
    """A run that ended VALID unless told otherwise; its id."""
    return add_runs(database, make_result(**result))[0]
