"""What a job would do: its runs in their order, what is started and stopped around each. Nothing is asked or queued."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from engines.catalog import find_engine
from engines.launch.disclosure import disclosed
from engines.spec import Attached, Container, Launched, TargetSpec
from services.api.fairness import asymmetries_planned
from services.api.job_schemas import DryRunOut, StepOut
from services.domain.job import JobSpec, PlannedRun


def what_would_run(job: JobSpec, planned: Sequence[PlannedRun]) -> DryRunOut:
    """The job as it would be queued."""
    notes = []
    if job.search is not None:
        notes.append("a search: only its first runs are known, each run's end asks for the next")
    if any(isinstance(run.spec.target.reach, Container) for run in planned):
        notes.append("before a container starts, whatever other listed container is on its card is stopped")
    if job.starts is not None:
        notes.append(
            f"{job.starts.count} starts a target, each of {job.starts.bursts} bursts a workload; "
            "a job of higher priority waits until a start has ended"
        )
    elif any(not isinstance(run.spec.target.reach, Attached) for run in planned):
        notes.append("each run starts its engine anew; with starts, several bursts share a start")
    notes += _later_than_planned(planned)
    return DryRunOut(
        runs=len(planned),
        steps=list(_steps(planned)),
        notes=notes,
        asymmetries=asymmetries_planned(planned),
    )


def _later_than_planned(planned: Sequence[PlannedRun]) -> list[str]:
    """Targets that stand before the one whose lengths they ask for: a round back, B A, is carried out as A B."""
    target_at = {run.position: run.target_name for run in planned}
    waiting = {
        (run.target_name, target_at[run.lengths_from])
        for run in planned
        if run.lengths_from is not None and run.lengths_from > run.position
    }
    return [
        f"{taker} asks for the lengths that {giver} gives: where it stands before {giver}, it is carried out after it"
        for taker, giver in sorted(waiting)
    ]


def _steps(planned: Sequence[PlannedRun]) -> Iterator[StepOut]:
    for at, run in enumerate(planned):
        begins = at == 0 or not _in_one_start(planned[at - 1], run)
        ends = at + 1 == len(planned) or not _in_one_start(run, planned[at + 1])
        yield _step(run, begins=begins, ends=ends)


def _in_one_start(one: PlannedRun, next_one: PlannedRun) -> bool:
    """The engine stays up in between; a server with an overlay is another."""
    same = one.start is not None and (one.target_name, one.start) == (next_one.target_name, next_one.start)
    return same and (one.spec.workload.lengths == "overlay") == (next_one.spec.workload.lengths == "overlay")


def _step(run: PlannedRun, *, begins: bool, ends: bool) -> StepOut:
    """`begins`, `ends`: the engine is started before it, and stopped after it."""
    engine = _started(run.spec.target)
    at = "" if run.point is None else f" at {run.point:g}"
    which = f"repeat {run.spec.repeat}" if run.start is None else f"burst {run.burst} of start {run.start}"
    load = f"{run.spec.workload.requests} requests of {run.series or run.workload_name}{at}, {which}"
    if engine is None:
        words = f"{load}, at {_address(run.spec.target)}"
    else:
        words = f"start {engine}, wait until it generates, {load}" if begins else load
        words += ", stop it" if ends else ""
    return StepOut(
        position=run.position,
        target=run.target_name,
        workload=run.workload_name,
        point=run.point,
        repeat=run.spec.repeat,
        start=run.start,
        burst=run.burst,
        requests=run.spec.workload.requests,
        resources=list(run.resources),
        starts=engine if begins else None,
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
