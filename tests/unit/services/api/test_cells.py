"""A cell's bursts nested in the starts that they were really carried out in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.api.cells import summarise_cells
from services.store.rows import Run, RunMetrics, RunStatus

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def run(position: int, rate: float | None, **more: Any) -> Run:
    values: dict[str, Any] = {
        "id": f"run-{position}",
        "job_id": "job",
        "job_name": "",
        "labels": {},
        "position": position,
        "priority": 0,
        "status": RunStatus.COMPLETED,
        "engine": "vllm",
        "model": "m",
        "target": "a",
        "workload": "w",
        "hardware": None,
        "precision": None,
        "endpoint": None,
        "flag_class": "as-shipped",
        "repeat": position,
        "spec_digest": "d",
        "workload_digest": "d",
        "simulated": False,
        "resources": (),
        "lengths_from": None,
        "created_at": BEGUN,
        "started_at": BEGUN + timedelta(seconds=position),
        "ended_at": BEGUN + timedelta(seconds=position + 1),
        "attempt": 1,
        "worker": "w",
        "cancel_requested": False,
        "progress": None,
        "validity": "VALID",
        "reason_codes": (),
        "metrics": RunMetrics(output_tokens_per_s=rate),
        "failures": {},
        "error": None,
    }
    return Run(**(values | more))


def bursts(first: int, name: str, number: int, *rates: float) -> list[Run]:
    return [
        run(first + k, rate, start=number, burst=k, start_id=name, started_at=BEGUN + timedelta(seconds=first + k))
        for k, rate in enumerate(rates)
    ]


def test_a_cell_is_the_median_of_its_starts_and_says_what_each_gave() -> None:
    runs = [*bursts(0, "s1", 0, 100, 101, 102), *bursts(3, "s2", 1, 110, 112, 111), *bursts(6, "s3", 2, 90, 91, 89)]
    figures = {one.id: {"output_tokens_per_s": one.metrics.output_tokens_per_s or 0.0} for one in runs}
    (cell,) = summarise_cells(runs, figures)
    for over in (cell.metrics["output_tokens_per_s"], cell.figures["output_tokens_per_s"]):
        assert (over.n, over.bursts, over.median, over.min, over.max) == (3, 9, 101, 90, 111)
        assert over.relative == pytest.approx(10.5 / 101)
        assert over.relative_within == pytest.approx(1 / 101)
        # starts of 101, 111 and 90: mean 100.667, standard deviation 10.504, t 4.303
        assert over.interval == pytest.approx((74.571, 126.762), abs=0.001)
    assert [(start.id, start.number, start.runs[0], start.valid) for start in cell.starts] == [
        ("s1", 0, "run-0", 3),
        ("s2", 1, "run-3", 3),
        ("s3", 2, "run-6", 3),
    ]
    assert [start.metrics["output_tokens_per_s"].median for start in cell.starts] == [101, 111, 90]
    assert cell.starts[0].metrics["output_tokens_per_s"].n == 3
    assert (cell.repeats, cell.valid, cell.rankable) == (9, 9, True)


def test_a_start_that_was_cut_short_and_its_rest_are_two() -> None:
    runs = [*bursts(0, "s1", 0, 100, 100), *bursts(2, "s2", 0, 120)]
    (cell,) = summarise_cells(runs, {})
    assert [(start.id, start.number) for start in cell.starts] == [("s1", 0), ("s2", 0)]
    assert cell.metrics["output_tokens_per_s"].median == 110


def test_bursts_that_do_not_count_are_in_no_figure() -> None:
    runs = [*bursts(0, "s1", 0, 100, 100), run(2, 500, validity="INVALID", start=0, burst=2, start_id="s1")]
    (cell,) = summarise_cells(runs, {})
    assert (len(cell.starts[0].runs), cell.starts[0].valid) == (3, 2)
    assert cell.starts[0].metrics["output_tokens_per_s"].max == 100
    assert cell.metrics["output_tokens_per_s"].bursts == 2


def test_runs_that_are_in_no_start_are_samples_of_their_own() -> None:
    (cell,) = summarise_cells([run(k, rate) for k, rate in enumerate((1.0, 2.0, 4.0))], {})
    over = cell.metrics["output_tokens_per_s"]
    assert (over.n, over.median, over.bursts, over.interval, cell.starts) == (3, 2, None, None, [])
