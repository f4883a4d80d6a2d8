"""Job -> runs: targets × workloads (× points of a sweep) × repeats or bursts of starts, in the order asked for. Pure.

Of a search only the first run of each target × workload is known; each run's end asks for the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench_runner.plan.spec import RunSpec, WorkloadSpec, without_seed
from engines.address import Lookup
from engines.spec import TargetSpec
from services.domain.errors import BadInput, Problem
from services.domain.job import (
    MOST_RUNS,
    MOST_SPEC_BYTES,
    Arm,
    JobSpec,
    PlannedRun,
    resolve_arms,
    resolve_workloads,
)
from services.domain.search import SENDING_SHARE, Probe, Search, first_requests, next_step
from services.domain.sweep import Along, Sweep, at_point, sweep_problems
from services.domain.target import occupied_resources


@dataclass(frozen=True, slots=True)
class PointWorkload:
    """A workload of a job as its runs carry it out."""

    spec: WorkloadSpec
    #: name without the point, and the point; `None` both: the job has neither sweep nor search
    series: str | None = None
    point: float | None = None
    #: which of its series' points it is, from 0
    place: int = 0


def expand(
    job: JobSpec,
    stored: Mapping[str, TargetSpec],
    *,
    presets: Mapping[str, WorkloadSpec],
    stops_early: Callable[[TargetSpec], bool],
    seed: int,
    lookup: Lookup | None = None,
) -> tuple[PlannedRun, ...]:
    """Every run of the job, in the order it wants them.

    Args:
        job: as asked for.
        stored: the stored targets it may name.
        presets: the workloads it may name.
        stops_early: the target's engine cannot be told to ignore EOS in a request.
        seed: the job's own, or the one drawn for it.
        lookup: resolves the hosts of servers, which are held by their addresses; `None`: by their names.

    Raises:
        BadInput: unknown names, names given twice, too many runs, or lengths that nobody can give.
    """
    arms = resolve_arms(job, stored)
    workloads = points_of(job, resolve_workloads(job, presets))
    _check_count(job, len(arms), len(workloads))
    _check_size(job, arms, [workload.spec for workload in workloads])
    held = {arm.name: occupied_resources(arm.spec, lookup) for arm in arms}
    givers = {w.spec.name: _length_giver(w.spec, arms, stops_early) for w in workloads}
    cells = list(_cells_in_order(job, arms, workloads))
    positions = {(arm.name, w.spec.name, repeat): position for position, (arm, w, repeat) in enumerate(cells)}
    return tuple(
        PlannedRun(
            position=position,
            spec=RunSpec(
                target=arm.spec,
                workload=without_seed(workload.spec),
                limits=job.limits,
                slo=job.slo if job.search is None else job.search.slo,
                seed=_seed_of(workload, seed),
                repeat=repeat,
                keep_raw=job.keep_raw,
                scrape_interval_s=job.scrape_interval_s,
                calibration=job.calibration,
            ),
            target_name=arm.name,
            workload_name=workload.spec.name,
            resources=held[arm.name],
            lengths_from=_lengths_from(givers[workload.spec.name], arm, workload.spec, repeat, positions),
            series=workload.series,
            point=workload.point,
            start=None if job.starts is None else repeat // job.starts.bursts,
            burst=None if job.starts is None else repeat % job.starts.bursts,
        )
        for position, (arm, workload, repeat) in enumerate(cells)
    )


def points_of(job: JobSpec, workloads: Sequence[WorkloadSpec]) -> tuple[PointWorkload, ...]:
    """Every workload at every point of the job's sweep, or at the first of its search; else as they are.

    Raises:
        BadInput: a workload cannot be driven along the axis.
    """
    along: Along | None = job.sweep or job.search
    if along is None:
        return tuple(PointWorkload(workload) for workload in workloads)
    problems = [p for at, w in enumerate(workloads) for p in sweep_problems(w, along, f"workloads.{at}")]
    problems += [] if job.search is None else _search_problems(job, job.search, workloads)
    found: list[PointWorkload] = []
    for at, workload in enumerate([] if problems else workloads):
        try:
            found += _points(along, workload)
        except BadInput as error:
            problems += [Problem(f"workloads.{at}", p.problem, p.mend) for p in error.problems]
    if problems:
        raise BadInput(*problems)
    return tuple(found)


def _points(along: Along, workload: WorkloadSpec) -> Iterator[PointWorkload]:
    base = workload.name
    match along:
        case Sweep(points=points):
            for place, value in enumerate(points):
                yield PointWorkload(at_point(workload, along, value, base=base), base, value, place)
        case Search():
            first = next_step(along, ())
            assert isinstance(first, Probe)
            spec = at_point(workload, along, first.value, base=base, requests=first.requests)
            yield PointWorkload(spec, base, first.value)


def _seed_of(point: PointWorkload, job_seed: int) -> int:
    """Each point draws prompts of its own: an engine may still have those of another in its prefix cache."""
    seed = job_seed if point.spec.seed is None else point.spec.seed
    if point.place == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {point.place}".encode()).digest()[:6])


def _search_problems(job: JobSpec, search: Search, workloads: Sequence[WorkloadSpec]) -> Iterator[Problem]:
    requests = first_requests(search)
    takes_s = max(requests / search.low, search.least_s) + search.least_s / 3
    allowed_s = SENDING_SHARE * job.limits.run_timeout_s
    if search.axis == "rate_per_s" and takes_s > allowed_s:
        yield Problem(
            "search.low",
            f"the claim takes {requests} requests, which at {search.low:g}/s are sent in {takes_s:.0f} s with their "
            f"ramp-up, and of the {job.limits.run_timeout_s:g} s that a run may last {allowed_s:g} s are for sending",
            "begin higher, raise limits.run_timeout_s, or ask for less attainment or confidence",
        )
    for at, workload in enumerate(workloads):
        if workload.lengths == "length-matched":
            problem = "a search sends other numbers of requests each time, and matched lengths are one a request"
            yield Problem(f"workloads.{at}.lengths", problem, "use ignore-eos, overlay or natural")


def _check_count(job: JobSpec, arms: int, workloads: int) -> None:
    total = arms * workloads * job.rounds
    if total > MOST_RUNS:
        starts = job.starts
        times = f"{job.repeats} repeats" if starts is None else f"{starts.count} starts × {starts.bursts} bursts"
        raise BadInput(
            Problem(
                "repeats" if starts is None else "starts",
                f"{arms} targets × {workloads} workloads × {times} are {total} runs",
                f"ask for at most {MOST_RUNS} runs in one job",
            )
        )


def _check_size(job: JobSpec, arms: Sequence[Arm], workloads: Sequence[WorkloadSpec]) -> None:
    """Raises BadInput where the specs of all runs are more than a database should be given at once."""
    arm_bytes = sum(len(arm.spec.model_dump_json().encode()) for arm in arms)
    workload_bytes = sum(len(workload.model_dump_json().encode()) for workload in workloads)
    whole = job.rounds * (len(workloads) * arm_bytes + len(arms) * workload_bytes)
    if whole > MOST_SPEC_BYTES:
        longest = max(range(len(workloads)), key=lambda at: len(workloads[at].model_dump_json()))
        raise BadInput(
            Problem(
                f"workloads.{longest}",
                f"each run keeps its spec, and those of all runs are {whole / 2**20:.0f} MiB",
                f"keep to {MOST_SPEC_BYTES // 2**20} MiB: fewer runs in one job, or long texts and lists in a file",
            )
        )


def _cells_in_order(
    job: JobSpec, arms: tuple[Arm, ...], workloads: tuple[PointWorkload, ...]
) -> Iterator[tuple[Arm, PointWorkload, int]]:
    """Each cell's repeats count through all its starts, so that no two of its runs draw the same prompts."""
    if job.starts is not None:
        for arm, start, backwards in _starts_in_order(job, job.starts.count, arms):
            first = start * job.starts.bursts
            for workload in reversed(workloads) if backwards else workloads:
                for burst in range(job.starts.bursts):
                    yield arm, workload, first + burst
        return
    match job.order:
        case "grouped":
            for arm in arms:
                for workload in workloads:
                    for repeat in range(job.repeats):
                        yield arm, workload, repeat
        case "interleaved" | "abba":
            for repeat in range(job.repeats):
                backwards = job.order == "abba" and repeat % 2 == 1
                for workload in workloads:
                    for arm in reversed(arms) if backwards else arms:
                        yield arm, workload, repeat


def _starts_in_order(job: JobSpec, count: int, arms: tuple[Arm, ...]) -> Iterator[tuple[Arm, int, bool]]:
    """Each arm's starts, and whether the round they are in goes backwards."""
    if job.order == "grouped":
        yield from ((arm, start, False) for arm in arms for start in range(count))
        return
    for start in range(count):
        backwards = job.order == "abba" and start % 2 == 1
        yield from ((arm, start, backwards) for arm in (reversed(arms) if backwards else arms))


def _length_giver(
    workload: WorkloadSpec, arms: tuple[Arm, ...], stops_early: Callable[[TargetSpec], bool]
) -> str | None:
    """The arm whose lengths the others ask for; `None` where lengths are known or given."""
    if workload.lengths != "length-matched" or workload.matched_output_tokens is not None:
        return None
    early = [arm.name for arm in arms if stops_early(arm.spec)]
    if len(early) != 1:
        problem = (
            "every engine of the job can be told to ignore EOS"
            if not early
            else f"more than one engine may stop early ({', '.join(early)})"
        )
        mend = "use lengths: ignore-eos" if not early else "give matched_output_tokens, or one such target a job"
        raise BadInput(Problem(f"workloads.{workload.name}.lengths", problem, mend))
    return early[0]


def _lengths_from(
    giver: str | None,
    arm: Arm,
    workload: WorkloadSpec,
    repeat: int,
    positions: Mapping[tuple[str, str, int], int],
) -> int | None:
    return None if giver is None or giver == arm.name else positions[giver, workload.name, repeat]
