"""Percentiles, distributions, and the spread over repeats. Pure; nothing measured gives `None`, never 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench_runner.measure.result import Distribution

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999}

#: The confidence MLPerf's LoadGen asks for.
CONFIDENCE = 0.99


def minimum_samples(quantile: float, confidence: float = CONFIDENCE) -> int:
    """Independent samples below which a percentile is not claimed: the least n with `quantile ** n <= 1 - confidence`.

    With fewer, even the largest sample may well lie below the true percentile. It is the early-stopping rule of
    MLPerf's LoadGen with no query over the limit (p50 7, p90 44, p95 90, p99 459, p99.9 4,603 at 99 %).
    """
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


MINIMUM_SAMPLES = {name: minimum_samples(quantile) for name, quantile in PERCENTILES.items()}


def percentile(ordered: Sequence[float], quantile: float) -> float:
    """The quantile (0 to 1) of an ascending sequence: linear between closest ranks, rank `quantile × (n - 1)`.

    It is numpy's default ("linear", Hyndman and Fan's type 7) and `statistics.quantiles(method="inclusive")`.

    Raises:
        ValueError: the sequence is empty, or the quantile is not between 0 and 1.
    """
    if not ordered:
        raise ValueError("a percentile of nothing")
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be between 0 and 1, not {quantile}")
    rank = quantile * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    share = rank - low
    # From the nearer end, so that rounding never carries the value past its neighbours.
    gap = ordered[high] - ordered[low]
    return ordered[low] + gap * share if share < 0.5 else ordered[high] - gap * (1 - share)


def distribution(values: Sequence[float], *, independent: int | None = None) -> Distribution | None:
    """The distribution of `values`; `None` where there are none.

    Args:
        independent: how many independent draws the values rest on, for `supported`: 0 for a burst, whose requests are
            positions in one queue; the number of requests where each gave many values. `None`: every value is one.
    """
    if not values:
        return None
    ordered = sorted(values)
    draws = len(ordered) if independent is None else independent
    points = {name: percentile(ordered, quantile) for name, quantile in PERCENTILES.items()}
    return Distribution(
        n=len(ordered),
        # fmean rounds once; the clamp keeps that last bit inside [min, max]
        mean=min(max(fmean(ordered), ordered[0]), ordered[-1]),
        stddev=_stddev(ordered) if len(ordered) > 1 else None,
        min=ordered[0],
        max=ordered[-1],
        supported={name: draws >= MINIMUM_SAMPLES[name] for name in PERCENTILES},
        **points,
    )


def _stddev(values: Sequence[float]) -> float:
    """Of a sample, n - 1 in the denominator: a distance, which is summed without loss, and fast for millions."""
    return math.dist(values, [fmean(values)] * len(values)) / math.sqrt(len(values) - 1)


@dataclass(frozen=True, slots=True)
class Spread:
    """One number over the repeats of a run: every repeat is one sample, or every start of the engine (`nested`)."""

    #: samples
    n: int
    median: float
    min: float
    max: float
    #: (max - min) ÷ 2 ÷ |median|, the "±" beside the median; `None` for one sample or a median of 0
    relative: float | None
    #: runs behind the samples, where a sample is the median of a start's bursts; `None`: every run is a sample
    bursts: int | None = None
    #: the same "±" among the bursts of one start, the median over starts; `None`: no start has two
    relative_within: float | None = None
    #: 95 % confidence interval for the mean of starts; `None`: every run is a sample, or there is one start
    interval: tuple[float, float] | None = None


def spread(values: Sequence[float]) -> Spread | None:
    """Median and spread over repeats; `None` where there are none.

    The half range says what the repeats did and assumes nothing: with the three to ten repeats that are usual, an
    interval from an assumed distribution would claim more than they hold.
    """
    if not values:
        return None
    middle, low, high = median(values), min(values), max(values)
    relative = (high - low) / 2 / abs(middle) if len(values) > 1 and middle else None
    return Spread(len(values), middle, low, high, relative)
