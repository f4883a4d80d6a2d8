"""A job's runs summarised over repeats: one cell for each target × workload. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench_runner.measure.stats import spread
from services.api.schemas import CellOut, SpreadOut
from services.store.rows import ENDED, Run, RunMetrics, RunStatus

METRICS = tuple(RunMetrics.__dataclass_fields__)


def summarise_cells(runs: Sequence[Run], figures: Mapping[str, Mapping[str, float]]) -> list[CellOut]:
    """Cells in the order in which the job first names them.

    Metrics are over VALID runs that nobody left out; where there is none, over all that completed and were not
    left out, and the cell says so.

    Args:
        runs: of one job, in its order.
        figures: run id -> figures of its Summary, where it has a result.
    """
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.target, run.workload), []).append(run)
    return [_summarise(cell, figures) for cell in cells.values()]


def _summarise(cell: Sequence[Run], figures: Mapping[str, Mapping[str, float]]) -> CellOut:
    first = cell[0]
    completed = [run for run in cell if run.status == RunStatus.COMPLETED and run.excluded_at is None]
    valid = [run for run in completed if run.is_ranked]
    excluded = sum(run.excluded_at is not None for run in cell)
    basis = valid or completed
    told = {run.simulated for run in cell if run.simulated is not None}
    tables = [figures[run.id] for run in basis if run.id in figures]
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
        rankable=0 < len(valid) == len(cell) - excluded,
        basis="valid" if valid else "not valid",
        metrics=_hot_metrics([run.metrics for run in basis]),
        figures=_shared_figures(tables),
    )


def _shared_figures(tables: Sequence[Mapping[str, float]]) -> dict[str, SpreadOut]:
    """Median and spread of each figure that every run gave."""
    shared = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
    found = {name: spread([table[name] for table in tables]) for name in shared}
    return {name: SpreadOut.model_validate(one) for name, one in found.items() if one is not None}


def _hot_metrics(metrics: Sequence[RunMetrics]) -> dict[str, SpreadOut]:
    """Median and spread of each metric that at least one run gave."""
    found = {name: spread([float(v) for m in metrics if (v := getattr(m, name)) is not None]) for name in METRICS}
    return {name: SpreadOut.model_validate(one) for name, one in found.items() if one is not None}
