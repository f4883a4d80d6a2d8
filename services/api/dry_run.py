"""What a job would do: its runs in their order, what is started and stopped for each. Nothing is asked or queued."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from engines.catalog import find_engine
from engines.launch.disclosure import disclosed
from engines.spec import Attached, Container, Launched, TargetSpec
from services.api.fairness import asymmetries_planned
from services.api.schemas import DryRunOut, StepOut
from services.domain.job import JobSpec, PlannedRun


def what_would_run(job: JobSpec, planned: Sequence[PlannedRun]) -> DryRunOut:
    """The job as it would be queued."""
    notes = []
    if job.search is not None:
        notes.append("a search: only its first runs are known, each run's end asks for the next")
    if any(isinstance(run.spec.target.reach, Container) for run in planned):
        notes.append("before a container starts, whatever other listed container is on its card is stopped")
    return DryRunOut(
        runs=len(planned),
        steps=[_step(run) for run in planned],
        notes=notes,
        asymmetries=asymmetries_planned(planned),
    )


def _step(run: PlannedRun) -> StepOut:
    starts = _started(run.spec.target)
    at = "" if run.point is None else f" at {run.point:g}"
    load = f"{run.spec.workload.requests} requests of {run.series or run.workload_name}{at}, repeat {run.spec.repeat}"
    if starts is None:
        words = f"{load}, at {_address(run.spec.target)}"
    else:
        words = f"start {starts}, wait until it generates, {load}, stop it"
    return StepOut(
        position=run.position,
        target=run.target_name,
        workload=run.workload_name,
        point=run.point,
        repeat=run.spec.repeat,
        requests=run.spec.workload.requests,
        resources=list(run.resources),
        starts=starts,
        waits_for=run.lengths_from,
        words=words,
    )


def _started(target: TargetSpec) -> str | None:
    """A container, or a command line; `None`: the server is there already."""
    match target.reach:
        case Container(container=name):
            return f"the container {name}"
        case Launched() as reach:
            command = find_engine(target.engine).command
            words = (
                (target.engine, *reach.args) if command is None else command(reach.model_path, reach.port, reach.args)
            )
            return shlex.join(disclosed(words, ()))
        case Attached():
            return None


def _address(target: TargetSpec) -> str:
    return target.reach.url if isinstance(target.reach, Attached) else target.engine
