"""Bursts nested in starts: the starts are the samples."""

from __future__ import annotations

import math
from statistics import stdev

import pytest

from bench_runner.measure.nesting import nested, spread_over, start_of
from bench_runner.measure.stats import Spread


def test_each_start_is_one_sample_however_many_bursts_it_had() -> None:
    found = nested([[100, 101, 102], [110, 110], [90, 95, 85, 90, 90]])
    assert found is not None
    assert (found.n, found.bursts) == (3, 10)
    # medians of starts: 101, 110, 90
    assert (found.median, found.min, found.max) == (101, 90, 110)
    assert found.relative == pytest.approx(10 / 101)
    # within: 1 / 101, 0, 5 / 90
    assert found.relative_within == pytest.approx(1 / 101)
    # mean 100.333, standard deviation 10.017, t(0.975; 2) 4.303
    assert found.interval == pytest.approx((75.449, 125.218), abs=0.001)


def test_many_bursts_of_one_start_give_no_interval() -> None:
    found = nested([[100.0, 100.1, 99.9, 100.0, 100.0]])
    assert found is not None
    assert (found.n, found.bursts, found.relative, found.interval) == (1, 5, None, None)
    assert found.relative_within == pytest.approx(0.001)


def test_bursts_that_agree_within_starts_do_not_narrow_the_interval() -> None:
    few, many = nested([[100], [104], [96]]), nested([[100] * 50, [104] * 50, [96] * 50])
    assert few is not None
    assert many is not None
    assert few.interval == many.interval == pytest.approx((100 - 9.937, 100 + 9.937), abs=0.001)
    assert (few.relative_within, many.relative_within) == (None, 0)


def test_t_falls_towards_the_normal_as_starts_grow() -> None:
    def half_width(starts: int) -> float:
        """In standard errors."""
        values = [-1.0, 1.0] * (starts // 2)
        found = nested([[value] for value in values])
        assert found is not None
        assert found.interval is not None
        return found.interval[1] / stdev(values) * math.sqrt(starts)

    assert half_width(2) == pytest.approx(12.706, abs=0.001)
    assert half_width(30) == pytest.approx(2.045, abs=0.001)
    assert half_width(32) == pytest.approx(2.0395, abs=0.001)
    assert half_width(100) == pytest.approx(1.9842, abs=0.001)


def test_runs_without_starts_are_samples_as_ever() -> None:
    assert spread_over([1, 2, 3], [None] * 3) == Spread(3, 2, 1, 3, 0.5)
    assert spread_over([], []) is None
    assert nested([[], []]) is None
    mixed = spread_over([1, 3, 10, 12], ["a", "a", None, None])
    assert mixed is not None
    assert (mixed.n, mixed.bursts, mixed.median) == (3, 4, 10)


def test_a_result_names_its_start() -> None:
    assert start_of({"environment": {"start": {"id": "s1"}}}) == "s1"
    assert start_of({"environment": {}}) is None
