"""Percentiles, distributions and spreads, against hand-worked numbers and the standard library's own quantiles."""

from __future__ import annotations

from statistics import quantiles, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_runner.measure.stats import MINIMUM_SAMPLES, distribution, minimum_samples, percentile, spread

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60)


def test_percentile_is_linear_between_closest_ranks() -> None:
    ordered = [10.0, 20.0, 30.0, 40.0]
    assert percentile(ordered, 0) == 10
    assert percentile(ordered, 0.5) == 25
    assert percentile(ordered, 0.9) == pytest.approx(37)  # rank 2.7
    assert percentile(ordered, 1) == 40
    assert percentile([7.0], 0.99) == 7


@pytest.mark.parametrize("quantile", [-0.01, 1.01])
def test_percentile_refuses_a_quantile_outside_its_range(quantile: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile([1.0], quantile)


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=60))
def test_percentile_agrees_with_the_standard_library(values: list[float]) -> None:
    ours = [percentile(sorted(values), k / 100) for k in range(1, 100)]
    assert ours == pytest.approx(quantiles(values, n=100, method="inclusive"), rel=1e-9, abs=1e-6)


@given(VALUES, st.floats(0, 1), st.floats(0, 1))
def test_percentile_rises_with_its_quantile_and_stays_inside(values: list[float], one: float, other: float) -> None:
    ordered = sorted(values)
    low, high = sorted((one, other))
    slack = 1e-9 * max(map(abs, ordered))
    assert ordered[0] <= percentile(ordered, low) <= percentile(ordered, high) + slack
    assert percentile(ordered, high) <= ordered[-1]


@given(VALUES)
def test_distribution_is_ordered_and_knows_nothing_of_the_order_it_came_in(values: list[float]) -> None:
    found = distribution(values)
    assert found is not None
    assert found == distribution(values[::-1])
    assert found.n == len(values)
    assert found.min <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.p999 <= found.max
    assert found.min <= found.mean <= found.max
    if len(values) == 1:
        assert found.stddev is None
    else:
        assert found.stddev == pytest.approx(stdev(values), rel=1e-9, abs=1e-12 * max(map(abs, values)))


def test_distribution_of_hand_worked_numbers() -> None:
    found = distribution([4.0, 1.0, 3.0, 2.0])
    assert found is not None
    assert (found.n, found.mean, found.min, found.max, found.p50) == (4, 2.5, 1, 4, 2.5)
    assert found.p90 == pytest.approx(3.7)
    assert found.stddev == pytest.approx((5 / 3) ** 0.5)


def test_a_distribution_of_nothing_is_none() -> None:
    assert distribution([]) is None


def test_minimum_samples_are_those_of_loadgen() -> None:
    assert MINIMUM_SAMPLES == {"p50": 7, "p90": 44, "p95": 90, "p99": 459, "p999": 4603}


@given(st.floats(0.01, 0.999), st.floats(0.5, 0.999))
def test_minimum_samples_is_the_least_that_satisfies_the_rule(quantile: float, confidence: float) -> None:
    least = minimum_samples(quantile, confidence)
    allowed = 1 - confidence
    assert quantile**least <= allowed * (1 + 1e-9)
    assert least == 1 or quantile ** (least - 1) > allowed * (1 - 1e-9)


@pytest.mark.parametrize(
    ("n", "claimed"),
    [
        (6, []),
        (7, ["p50"]),
        (100, ["p50", "p90", "p95"]),
        (458, ["p50", "p90", "p95"]),
        (459, ["p50", "p90", "p95", "p99"]),
        (4602, ["p50", "p90", "p95", "p99"]),
        (4603, [*MINIMUM_SAMPLES]),
    ],
)
def test_a_percentile_is_claimed_from_its_minimum_on(n: int, claimed: list[str]) -> None:
    found = distribution([float(k) for k in range(n)])
    assert found is not None
    assert [name for name, yes in found.supported.items() if yes] == claimed


def test_values_that_depend_on_each_other_claim_nothing() -> None:
    found = distribution([1.0] * 10_000, independent=0)
    assert found is not None
    assert not any(found.supported.values())


def test_spread_over_repeats() -> None:
    found = spread([102.0, 100.0, 96.0])
    assert found is not None
    assert (found.n, found.median, found.min, found.max) == (3, 100, 96, 102)
    assert found.relative == pytest.approx(0.03)


def test_spread_of_one_repeat_has_no_width() -> None:
    found = spread([5.0])
    assert found is not None
    assert (found.median, found.relative) == (5, None)
    nothing = spread([0.0, 0.0])
    assert nothing is not None
    assert nothing.relative is None
    assert spread([]) is None
