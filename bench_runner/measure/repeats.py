"""Several Summaries of the same work to one Spread for each figure. Every repeat, or start, is one sample. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_runner.measure.metrics import METRICS
from bench_runner.measure.nesting import spread_over
from bench_runner.measure.stats import PERCENTILES, Spread

#: Figures taken of a distribution, each under "metric.figure".
FIGURES = ("mean", *PERCENTILES)


def figures_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """A Summary's figures by name: numbers as they are, distributions as "ttft_s.p50" and so on; what is None left out.

    Names keep the order of METRICS.
    """
    found: dict[str, float] = {}
    for name, metric in METRICS.items():
        value = summary.get(name)
        if value is None:
            continue
        if metric.kind == "number":
            found[name] = float(value)
        else:
            # A result from before there was a p999 has none.
            found.update({f"{name}.{figure}": float(value[figure]) for figure in FIGURES if figure in value})
    return found


def spreads_of(summaries: Sequence[Mapping[str, Any]], starts: Sequence[str | None] | None = None) -> dict[str, Spread]:
    """Median and spread of each figure over repeats; only figures that every repeat gave.

    Args:
        summaries: one a run.
        starts: the start of the engine that each was a burst of, `None` for a run that is a sample of its own;
            `None`: all are.
    """
    tables = [figures_of(summary) for summary in summaries]
    if not tables:
        return {}
    of_runs = [None] * len(tables) if starts is None else starts
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    found = {name: spread_over([table[name] for table in tables], of_runs) for name in shared}
    return {name: one for name, one in found.items() if one is not None}


def metric_of(figure: str) -> str:
    """The row of METRICS that a figure belongs to."""
    return figure.partition(".")[0]
