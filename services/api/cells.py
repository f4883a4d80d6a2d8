"""A job's runs summarised over repeats, or bursts nested in starts: one cell for each target × workload. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from bench_runner.measure.nesting import spread_over
from services.api.job_schemas import CellOut, SpreadOut, StartOut
from services.store.rows import ENDED, Run, RunMetrics, RunStatus

METRICS = tuple(RunMetrics.__dataclass_fields__)


def summarise_cells(
    runs: Sequence[Run], figures: Mapping[str, Mapping[str, float]], attached: Collection[str] = ()
) -> list[CellOut]:
    """Cells in the order in which the job first names them.

    Metrics are over VALID runs that nobody left out; where there is none, over all that completed and were not
    left out, and the cell says so.

    Args:
        runs: of one job, in its order.
        figures: run id -> figures of its Summary, where it has a result.
        attached: targets whose server nobody starts.
    """
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.target, run.workload), []).append(run)
    return [_summarise(cell, figures, attached) for cell in cells.values()]


def _summarise(cell: Sequence[Run], figures: Mapping[str, Mapping[str, float]], attached: Collection[str]) -> CellOut:
    first = cell[0]
    completed = [run for run in cell if run.status == RunStatus.COMPLETED and run.excluded_at is None]
    valid = [run for run in completed if run.is_ranked]
    excluded = sum(run.excluded_at is not None for run in cell)
    basis = valid or completed
    told = {run.simulated for run in cell if run.simulated is not None}
    return CellOut(
        target=first.target,
        workload=first.workload,
        series=first.series,
        point=first.point,
        engine=first.engine,
        model=first.model,
        hardware=first.hardware,
        # One simulated repeat makes the cell simulated.
        simulated=any(told) if told else None,
        repeats=len(cell),
        ended=sum(run.status in ENDED for run in cell),
        valid=len(valid),
        excluded=excluded,
        starts=_starts(cell, basis, engine_started=first.target not in attached),
        rankable=0 < len(valid) == len(cell) - excluded,
        basis="valid" if valid else "not valid",
        metrics=_hot_metrics(basis),
        figures=_shared_figures([run for run in basis if run.id in figures], figures),
    )


def _starts(cell: Sequence[Run], basis: Sequence[Run], *, engine_started: bool) -> list[StartOut]:
    """The starts that its runs were really carried out in, by the job's order."""
    starts: dict[str, list[Run]] = {}
    for run in sorted(cell, key=lambda run: (run.started_at is None, run.started_at or run.created_at)):
        if run.start_id is not None:
            starts.setdefault(run.start_id, []).append(run)
    return [
        StartOut(
            id=name,
            number=bursts[0].start,
            engine_started=engine_started,
            runs=[run.id for run in bursts],
            valid=sum(run.status == RunStatus.COMPLETED and run.is_ranked for run in bursts),
            metrics=_hot_metrics([run for run in bursts if run in basis], alone=True),
        )
        for name, bursts in starts.items()
    ]


def _shared_figures(runs: Sequence[Run], figures: Mapping[str, Mapping[str, float]]) -> dict[str, SpreadOut]:
    """Median and spread of each figure that every run gave."""
    tables = [figures[run.id] for run in runs]
    starts = [run.start_id for run in runs]
    shared = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
    found = {name: spread_over([table[name] for table in tables], starts) for name in shared}
    return {name: SpreadOut.model_validate(one) for name, one in found.items() if one is not None}


def _hot_metrics(runs: Sequence[Run], *, alone: bool = False) -> dict[str, SpreadOut]:
    """Median and spread of each metric that at least one run gave. `alone`: of one start, whose bursts are samples."""
    found = {}
    for name in METRICS:
        told = [(float(v), run.start_id) for run in runs if (v := getattr(run.metrics, name)) is not None]
        found[name] = spread_over([value for value, _ in told], [None if alone else start for _, start in told])
    return {name: SpreadOut.model_validate(one) for name, one in found.items() if one is not None}
