"""The throughput-interactivity curve of a job along its axis: a point for each value, over its VALID runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_runner.measure.nesting import spread_over
from bench_runner.measure.stats import MINIMUM_SAMPLES
from services.api.job_schemas import CurveOut, CurvePointOut, LeftOutOut, SeriesOut, SpreadOut
from services.store.rows import ENDED, Run

#: Field of a point -> the figure it is the spread of.
FIGURES = {
    "output_tokens_per_s": "output_tokens_per_s",
    "output_tokens_per_s_per_gpu": "output_tokens_per_s_per_gpu",
    "sustained_output_tokens_per_s": "sustained_output_tokens_per_s",
    "tokens_per_s_per_user": "tokens_per_s_per_user.p50",
    "requests_per_s": "requests_per_s",
    "goodput_requests_per_s": "goodput_requests_per_s",
    "ttft_p50_s": "ttft_s.p50",
    "ttft_p99_s": "ttft_s.p99",
    "tpot_p50_s": "tpot_s.p50",
    "tpot_p99_s": "tpot_s.p99",
}


def curve_of(
    job_id: str,
    axis: str,
    runs: Sequence[Run],
    figures: Mapping[str, Mapping[str, float]],
    reasons: Mapping[str, Sequence[Mapping[str, Any]]],
) -> CurveOut:
    """One series for each target × workload, its points by their value.

    Args:
        axis: "concurrency" or "rate_per_s".
        runs: of the job.
        figures: run id -> figures of its Summary, where it has a result.
        reasons: run id -> why it is not VALID, where it has a result that is not.
    """
    series: dict[tuple[str, str], dict[float, list[Run]]] = {}
    for run in runs:
        if run.series is not None and run.point is not None:
            series.setdefault((run.target, run.series), {}).setdefault(run.point, []).append(run)
    return CurveOut(
        job_id=job_id,
        axis=axis,
        series=[
            _series(target, workload, axis, points, figures, reasons) for (target, workload), points in series.items()
        ],
    )


def _series(
    target: str,
    workload: str,
    axis: str,
    points: Mapping[float, Sequence[Run]],
    figures: Mapping[str, Mapping[str, float]],
    reasons: Mapping[str, Sequence[Mapping[str, Any]]],
) -> SeriesOut:
    runs = [run for at in points.values() for run in at]
    told = {run.simulated for run in runs if run.simulated is not None}
    return SeriesOut(
        target=target,
        workload=workload,
        engine=runs[0].engine,
        model=runs[0].model,
        hardware=runs[0].hardware,
        # One simulated run makes the series simulated.
        simulated=any(told) if told else None,
        points=[_point(value, points[value], figures, reasons) for value in sorted(points)],
    )


def _point(
    value: float,
    runs: Sequence[Run],
    figures: Mapping[str, Mapping[str, float]],
    reasons: Mapping[str, Sequence[Mapping[str, Any]]],
) -> CurvePointOut:
    valid = [run for run in runs if run.is_ranked and run.id in figures]
    tables = [(figures[run.id], run.start_id) for run in valid]
    fewest = min((run.metrics.successes or 0 for run in valid), default=0)
    told = {run.simulated for run in runs if run.simulated is not None}
    spreads = {
        name: _spread([(table[figure], start) for table, start in tables if figure in table])
        for name, figure in FIGURES.items()
    }
    return CurvePointOut(
        value=value,
        workload=runs[0].workload,
        runs=len(runs),
        ended=sum(run.status in ENDED for run in runs),
        valid=len(valid),
        simulated=any(told) if told else None,
        p99_supported=fewest >= MINIMUM_SAMPLES["p99"],
        left_out=[_left_out(run, reasons.get(run.id, ())) for run in runs if run.status in ENDED and run not in valid],
        **spreads,
    )


def _spread(told: Sequence[tuple[float, str | None]]) -> SpreadOut | None:
    found = spread_over([value for value, _ in told], [start for _, start in told])
    return None if found is None else SpreadOut.model_validate(found)


def _left_out(run: Run, reasons: Sequence[Mapping[str, Any]]) -> LeftOutOut:
    if run.excluded_at is not None:
        return LeftOutOut(run_id=run.id, state="excluded", codes=["excluded"], why=run.excluded_note or "")
    words = "; ".join(str(reason["message"]) for reason in reasons)
    return LeftOutOut(
        run_id=run.id,
        state=run.validity or run.status.value,
        codes=[str(reason["code"]) for reason in reasons],
        why=words or run.error or f"the run is {run.status.value} and has no result",
    )
