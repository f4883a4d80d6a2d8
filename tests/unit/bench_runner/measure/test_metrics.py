"""METRICS as a table: complete, with known units, kinds and directions."""

from __future__ import annotations

import pytest

from bench_runner.measure.metrics import METRICS, Metric


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_each_row_says_what_it_is(metric: Metric) -> None:
    assert METRICS[metric.name] is metric
    assert metric.unit in {"s", "tokens/s", "requests/s", "characters/s", "ratio", "J/token", "tokens/s/W"}
    assert metric.direction in {"higher", "lower", "none"}
    assert metric.kind in {"number", "distribution"}
    assert metric.formula
    assert metric.source


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_the_unit_is_in_the_name(metric: Metric) -> None:
    endings = {"s": ("_s",), "ratio": ("_ratio", "_rate"), "requests/s": ("requests_per_s",)}
    endings |= {"J/token": ("joules_per_output_token",), "tokens/s/W": ("tokens_per_s_per_w",)}
    assert metric.name.endswith(endings.get(metric.unit, ("_per_s", "_per_s_per_gpu", "_per_s_per_user")))
