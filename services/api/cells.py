"""A job's runs summarised over repeats: one cell for each target × workload. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, stdev

from services.api.schemas import CellOut, Spread
from services.store.rows import ENDED, Run, RunMetrics, RunStatus

METRICS = tuple(RunMetrics.__dataclass_fields__)


def summarise_cells(runs: Sequence[Run]) -> list[CellOut]:
    """Cells in the order in which the job first names them.

    Metrics are over VALID runs; where there is none, over all that completed, and the cell says so.
    """
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.target, run.workload), []).append(run)
    return [_summarise(cell) for cell in cells.values()]


def _summarise(cell: Sequence[Run]) -> CellOut:
    first = cell[0]
    completed = [run for run in cell if run.status == RunStatus.COMPLETED]
    valid = [run for run in completed if run.validity == "VALID"]
    told = {run.simulated for run in cell if run.simulated is not None}
    return CellOut(
        target=first.target,
        workload=first.workload,
        engine=first.engine,
        model=first.model,
        hardware=first.hardware,
        # One simulated repeat makes the cell simulated.
        simulated=any(told) if told else None,
        repeats=len(cell),
        ended=sum(run.status in ENDED for run in cell),
        valid=len(valid),
        rankable=len(valid) == len(cell),
        basis="valid" if valid else "not valid",
        metrics=spreads([run.metrics for run in valid or completed]),
    )


def spreads(metrics: Sequence[RunMetrics]) -> dict[str, Spread]:
    """Median and spread of each metric that at least one run gave."""
    found: dict[str, Spread] = {}
    for name in METRICS:
        values = [float(v) for m in metrics if (v := getattr(m, name)) is not None]
        if values:
            found[name] = Spread(
                n=len(values),
                median=median(values),
                min=min(values),
                max=max(values),
                stddev=stdev(values) if len(values) > 1 else None,
            )
    return found
