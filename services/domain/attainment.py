"""The share of requests that met an SLO, and what may be claimed of the true share. Pure.

Requests of one run are not independent: a queue that is long for one is long for the next, so misses come together. A
run's requests are worth `effective` independent ones: by how its misses, and its slowest tenth, spread over blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import variance
from typing import Any

from bench_runner.plan.spec import Slo

#: A run is cut into so many blocks of consecutive requests, in several ways: how long a queue remembers is not known.
_CUTS = (50, 25, 12, 6)
_LEAST_BLOCK = 4
_LEAST_BLOCKS = 5
#: Where nothing missed, requests above this share of the run stand in for misses: they come together alike.
_SLOW = 0.9
#: Steps of the continued fraction, and of the halving that inverts it: double precision, with room.
_FRACTION_STEPS = 1_000
_HALVINGS = 80


@dataclass(frozen=True, slots=True)
class Attained:
    """How many requests of a run met the SLO."""

    #: all that count: failures are misses, what we ourselves cancelled does not count
    requests: int
    met: int
    #: how many independent requests they are worth
    effective: float


@dataclass(slots=True)
class Tally:
    """Reads records on their way to somewhere else, and keeps the strain of each."""

    slo: Slo
    #: latencies count from the scheduled moment: an open loop, whose requests do not wait for answers
    from_scheduled: bool
    #: requests that were due in the first so many seconds do not count
    ramp_up_s: float = 0.0
    #: nor do the first so many: a closed loop begins with a burst of as many as it has slots
    skipped: int = 0
    _seen: list[tuple[int, float]] = field(default_factory=list)

    def watch(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The rows, as they are."""
        for row in rows:
            if row["failure_kind"] != "cancelled":
                strain = strain_of(row, self.slo, from_scheduled=self.from_scheduled)
                self._seen.append((row["scheduled_ns"], strain))
            yield row

    def attained(self) -> Attained:
        """Of the rows that went by."""
        first_ns = min((at for at, _ in self._seen), default=0)
        counted = sorted(seen for seen in self._seen if seen[0] >= first_ns + self.ramp_up_s * 1e9)
        strains = [strain for _, strain in counted[self.skipped :]]
        return Attained(len(strains), sum(strain <= 1 for strain in strains), effective_count(strains))


def strain_of(row: Mapping[str, Any], slo: Slo, *, from_scheduled: bool) -> float:
    """Of a request's record: what it took of the limit it came closest to; infinite where it failed.

    It met the SLO, as `goodput_requests_per_s` has it, where that is no more than 1.
    """
    if row["failure_kind"] is not None:
        return math.inf
    lag_s = (row["send_lag_s"] or 0.0) if from_scheduled else 0.0
    limits = [(slo.ttft_s, row["ttft_s"], lag_s), (slo.e2e_s, row["e2e_s"], lag_s)]
    if row["engine_output_tokens"] != 1:
        limits.append((slo.tpot_s, row["tpot_s"], 0.0))
    given = [(limit, took, late_s) for limit, took, late_s in limits if limit is not None]
    return max((math.inf if took is None else (took + late_s) / limit for limit, took, late_s in given), default=0.0)


def effective_count(strains: Sequence[float]) -> float:
    """How many independent requests these are worth, given in the order in which they were due.

    Misses per block of independent requests spread as a binomial does; where they spread more, requests are worth less
    by the ratio of the two variances (the design effect of a cluster sample: Kish, 1965). The same is asked of the
    slowest tenth, for a run without a miss says nothing of how misses would come. Never more than they are.
    """
    if not strains:
        return 0.0
    slow = sorted(strains)[int(_SLOW * len(strains))]
    missed, slowest = [strain > 1 for strain in strains], [strain >= slow for strain in strains]
    return len(strains) / max(_design_effect(missed), _design_effect(slowest))


def _design_effect(over: Sequence[bool]) -> float:
    share = sum(over) / len(over)
    if share in (0, 1):
        return 1.0
    found = 1.0
    for blocks in _CUTS:
        size = max(_LEAST_BLOCK, len(over) // blocks)
        counts = [sum(over[start : start + size]) for start in range(0, len(over) - size + 1, size)]
        if len(counts) >= _LEAST_BLOCKS:
            found = max(found, variance(counts) / (size * share * (1 - share)))
    return found


def lower_bound(attained: Attained, error: float) -> float:
    """The true share is above it but for a chance of `error` (Clopper and Pearson, 1934); 0 where nothing was seen."""
    met, missed = _parts(attained)
    return 0.0 if met <= 0 else _beta_quantile(error, met, missed + 1)


def upper_bound(attained: Attained, error: float) -> float:
    """The true share is below it but for a chance of `error`; 1 where nothing was seen."""
    met, missed = _parts(attained)
    return 1.0 if missed <= 0 else _beta_quantile(1 - error, met + 1, missed)


def pool(parts: Iterable[Attained]) -> Attained:
    """Several runs at the same load as one."""
    parts = list(parts)
    return Attained(sum(p.requests for p in parts), sum(p.met for p in parts), math.fsum(p.effective for p in parts))


def _parts(attained: Attained) -> tuple[float, float]:
    """(met, missed) of the independent requests that the sample is worth."""
    if not attained.requests:
        return 0.0, 0.0
    met = attained.effective * attained.met / attained.requests
    return met, attained.effective - met


@lru_cache(maxsize=1024)
def _beta_quantile(share: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if beta_share(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, I_x(a, b): the share of a beta distribution below x.

    By its continued fraction (DLMF 8.17.22), whose partial numerators are
    d(2m) = m(b-m)x ÷ ((a+2m-1)(a+2m)) and d(2m+1) = -(a+m)(a+b+m)x ÷ ((a+2m)(a+2m+1)).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / a / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + …)), by the ratios of successive convergents."""
    tiny = 1e-300
    value = over = 1.0
    under = 0.0
    for step in range(1, _FRACTION_STEPS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        under = 1 / ((1 + term * under) or tiny)
        over = (1 + term / over) or tiny
        value *= over * under
        if abs(over * under - 1) < 1e-15:
            break
    return value
