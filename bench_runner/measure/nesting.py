"""Bursts nested in starts of an engine: the starts are the samples, however many bursts each had. Pure.

What is drawn anew at a start (compilation, the layout of memory, the card's heat) is the same for all its bursts, so a
hundred bursts of one start say nothing of the next start. Each start gives one value, the median of its bursts, and the
interval rests on as many as there are: for starts of equal size that is the interval of the balanced nested design (one
way, random effects), whose variance of a start's mean holds both parts, between and within.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median, stdev
from typing import Any

from bench_runner.measure.stats import Spread, spread

CONFIDENCE = 0.95

#: Quantile 0.975 of Student's t, by degrees of freedom from 1.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def start_of(result: Mapping[str, Any]) -> str | None:
    """Names the start that a run was a burst of, by its RunResult as JSON; `None`: it is a sample of its own."""
    start = result["environment"].get("start") or {}
    return start.get("id")


def nested(starts: Sequence[Sequence[float]]) -> Spread | None:
    """Median over starts of the median of their bursts, with spread between and within; `None` where there are none.

    Args:
        starts: of each start, the values of its bursts; empty ones are passed over.
    """
    filled = [bursts for bursts in starts if bursts]
    samples = [median(bursts) for bursts in filled]
    found = spread(samples)
    if found is None:
        return None
    within = [one.relative for bursts in filled if (one := spread(bursts)) is not None and one.relative is not None]
    return replace(
        found,
        bursts=sum(map(len, filled)),
        relative_within=median(within) if within else None,
        interval=_interval(samples),
    )


def spread_over(values: Sequence[float], starts: Sequence[str | None]) -> Spread | None:
    """Nested where a value's start is known for any of them, else each value a sample; `None` where there are none.

    Args:
        values: one a run.
        starts: the start of each; a run without one is a start of its own.
    """
    if all(start is None for start in starts):
        return spread(values)
    groups: dict[object, list[float]] = {}
    for number, (value, start) in enumerate(zip(values, starts, strict=True)):
        groups.setdefault(number if start is None else start, []).append(value)
    return nested(list(groups.values()))


def _interval(samples: Sequence[float]) -> tuple[float, float] | None:
    if len(samples) < 2:
        return None
    freedom = len(samples) - 1
    # Beyond the table, the first terms of t's expansion in 1/freedom (Cornish and Fisher).
    factor = _T[freedom - 1] if freedom <= len(_T) else 1.95996 + 2.3723 / freedom + 2.8225 / freedom**2
    middle, reach = fmean(samples), factor * stdev(samples) / math.sqrt(len(samples))
    return middle - reach, middle + reach
