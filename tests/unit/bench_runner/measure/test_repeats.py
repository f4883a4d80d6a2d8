"""Figures of several repeats as one spread each."""

from __future__ import annotations

import pytest

from bench_runner.measure.repeats import figures_of, metric_of, spreads_of
from bench_runner.measure.summary import RunFacts, summarise
from engines.contract import FailureKind
from tests.fakes.records import make_record


def summary(took_ms: float) -> dict[str, object]:
    return summarise([make_record(events_ms=(took_ms / 2, took_ms))], RunFacts("burst"))[0]


def test_figures_are_named_by_metric_and_percentile() -> None:
    found = figures_of(summary(100))
    assert found["duration_s"] == pytest.approx(0.1)
    assert found["ttft_s.p50"] == pytest.approx(0.05)
    assert "connect_s.p50" not in found
    assert metric_of("ttft_s.p50") == "ttft_s"
    assert metric_of("duration_s") == "duration_s"


def test_each_repeat_is_one_sample() -> None:
    found = spreads_of([summary(100), summary(300), summary(200)])
    assert found["duration_s"].n == 3
    assert found["duration_s"].median == pytest.approx(0.2)
    assert found["e2e_s.p99"].max == pytest.approx(0.3)
    assert found["duration_s"].relative == pytest.approx(0.5)


def test_a_figure_that_one_repeat_lacks_is_left_out() -> None:
    failed = summarise([make_record(events_ms=(), failure=FailureKind.REJECTED)], RunFacts("burst"))[0]
    found = spreads_of([summary(100), failed])
    assert "duration_s" not in found
    assert found["failure_rate"].max == 1
    assert spreads_of([]) == {}
