"""What the targets of one job are not alike in: once when it is asked for, and again with what the engines said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_runner.fairness import asymmetries
from bench_runner.plan.spec import WorkloadSpec
from engines.spec import TargetSpec
from services.api.job_schemas import AsymmetryOut
from services.domain.job import PlannedRun
from services.store.database import Database
from services.store.treated import servers_in_job, targets_in_job, workloads_in_job


def asymmetries_planned(planned: Sequence[PlannedRun]) -> list[AsymmetryOut]:
    """Of a job that has not run yet: what its specs say."""
    targets: dict[str, TargetSpec] = {}
    workloads: dict[str, WorkloadSpec] = {}
    for run in planned:
        targets.setdefault(run.target_name, run.spec.target)
        workloads.setdefault(run.series or run.workload_name, run.spec.workload)
    return _told(targets, workloads, {})


def asymmetries_found(store: Database, job_id: str) -> list[AsymmetryOut]:
    """Of a job as it stands: the flags that its servers were found with go before those that its specs state."""
    targets = targets_in_job(store, job_id)
    if len(targets) < 2:
        return []
    workloads = workloads_in_job(store, job_id)
    return _told(
        {name: TargetSpec.model_validate(spec) for name, spec in targets.items()},
        {name: WorkloadSpec.model_validate(spec) for name, spec in workloads.items()},
        servers_in_job(store, job_id),
    )


def _told(
    targets: Mapping[str, TargetSpec], workloads: Mapping[str, WorkloadSpec], servers: Mapping[str, Mapping[str, Any]]
) -> list[AsymmetryOut]:
    """Each asymmetry once, with the workloads that have it."""
    found: dict[str, AsymmetryOut] = {}
    for name, workload in workloads.items() if len(targets) > 1 else ():
        for one in asymmetries(targets, workload, servers):
            there = found.setdefault(
                one.words, AsymmetryOut(subject=one.subject, values=one.values, words=one.words, workloads=[])
            )
            there.workloads.append(name)
    return list(found.values())
