"""Several Summaries of the same work to one Spread for each figure. Every repeat is one sample. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_runner.measure.metrics import METRICS
from bench_runner.measure.stats import PERCENTILES, Spread, spread

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


def spreads_of(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Median and spread of each figure over repeats; only figures that every repeat gave."""
    tables = [figures_of(summary) for summary in summaries]
    if not tables:
        return {}
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    found = {name: spread([table[name] for table in tables]) for name in shared}
    return {name: one for name, one in found.items() if one is not None}


def metric_of(figure: str) -> str:
    """The row of METRICS that a figure belongs to."""
    return figure.partition(".")[0]
