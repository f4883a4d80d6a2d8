"""A workload at many points: which values, how long each, and what stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bench_runner.likeness import AXES
from bench_runner.plan.presets import PRESETS
from bench_runner.plan.spec import ClosedLoop, Constant, Gamma, Poisson, WorkloadSpec
from engines.spec import TargetSpec
from services.domain.errors import BadInput
from services.domain.expansion import expand
from services.domain.job import JobSpec, PlannedRun
from services.domain.sweep import Sweep, at_point

BASE: dict[str, Any] = {
    "name": "tiny",
    "requests": 20,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 8}},
    "output_tokens": {"kind": "fixed", "tokens": 8},
}
TARGET = TargetSpec.model_validate(
    {"engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://127.0.0.1:1"}}
)


def workload(**more: Any) -> WorkloadSpec:
    return WorkloadSpec.model_validate(BASE | more)


def point(sweep: dict[str, Any], value: float, **more: Any) -> WorkloadSpec:
    return at_point(workload(**more), Sweep.model_validate(sweep), value, base="tiny")


def runs_of(**job: Any) -> tuple[PlannedRun, ...]:
    body = {"targets": ["a", "b"], "workloads": [BASE]} | job
    stored = {"a": TARGET, "b": TARGET}
    return expand(JobSpec.model_validate(body), stored, presets=PRESETS, stops_early=lambda _: False, seed=9)


def test_points_are_given_or_evenly_spaced_as_ratios() -> None:
    assert Sweep(axis="rate_per_s", values=(4, 1, 2)).points == (4, 1, 2)
    assert Sweep(axis="rate_per_s", low=1, high=8, steps=4).points == (1, 2, 4, 8)
    assert Sweep(axis="concurrency", low=1, high=100, steps=5).points == (1, 3, 10, 32, 100)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"axis": "concurrency"}, "give values, or low, high and steps"),
        ({"axis": "concurrency", "values": [1], "low": 1}, "not both"),
        ({"axis": "concurrency", "values": [1.5]}, "whole number"),
        ({"axis": "concurrency", "values": [30_000]}, "20000"),
        ({"axis": "concurrency", "values": [2, 2]}, "given twice"),
        ({"axis": "concurrency", "low": 1, "high": 3, "steps": 9}, "closer than one slot"),
        ({"axis": "rate_per_s", "low": 8, "high": 1, "steps": 4}, "low must be below high"),
        ({"axis": "concurrency", "values": [1], "arrival": "poisson"}, "closed loop"),
        ({"axis": "rate_per_s", "values": [1], "arrival": "poisson", "burstiness": 2}, "gamma"),
    ],
)
def test_what_is_no_sweep_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Sweep.model_validate(body)


def test_a_closed_loop_is_filled_often_enough() -> None:
    loop = {"axis": "concurrency", "values": [1], "waves": 10}
    assert (point(loop, 1).requests, point(loop, 64).requests) == (20, 640)
    assert point(loop, 64).arrival == ClosedLoop(concurrency=64)


def test_a_rate_is_held_for_long_enough_and_a_duration_is_kept() -> None:
    rate = {"axis": "rate_per_s", "values": [1], "least_s": 30}
    assert (point(rate, 0.5).requests, point(rate, 8).requests) == (20, 240)
    timed = point(rate, 100, duration_s=5, arrival={"kind": "constant", "rate_per_s": 1})
    assert timed.duration_s == 5
    assert 500 < timed.requests < 1000


def test_the_arrival_stays_of_its_kind_unless_told_otherwise() -> None:
    rate = {"axis": "rate_per_s", "values": [1]}
    gamma = {"kind": "gamma", "rate_per_s": 1, "burstiness": 0.5, "max_concurrency": 7}
    assert point(rate, 2).arrival == Poisson(rate_per_s=2)
    assert point(rate, 2, arrival=gamma).arrival == Gamma(rate_per_s=2, burstiness=0.5, max_concurrency=7)
    assert point(rate | {"arrival": "constant"}, 2, arrival=gamma).arrival == Constant(rate_per_s=2, max_concurrency=7)
    thinking = {"kind": "closed_loop", "concurrency": 1, "think_time_s": 2}
    loop = point({"axis": "concurrency", "values": [4]}, 4, arrival=thinking)
    assert loop.arrival == ClosedLoop(concurrency=4, think_time_s=2)


def test_nothing_differs_between_points_but_the_axis_and_the_number_of_requests() -> None:
    for sweep, freed in (
        ({"axis": "concurrency", "values": [2, 4]}, AXES["concurrency"]),
        ({"axis": "rate_per_s", "values": [2, 4]}, AXES["rate"]),
    ):
        first, second = (point(sweep, value) for value in (2, 4))
        free = {"requests": 1, "name": "x", "arrival": first.arrival}
        assert first.model_copy(update=free) == second.model_copy(update=free)
        assert {f.removeprefix("workload.") for f in freed} >= {"requests"}


def test_every_point_is_a_cell_of_its_own_in_the_order_asked_for() -> None:
    sweep = {"axis": "concurrency", "values": [1, 8]}
    runs = runs_of(sweep=sweep, repeats=2, order="abba")
    assert [(r.target_name, r.point, r.spec.repeat) for r in runs] == [
        *[("a", 1, 0), ("b", 1, 0), ("a", 8, 0), ("b", 8, 0)],
        *[("b", 1, 1), ("a", 1, 1), ("b", 8, 1), ("a", 8, 1)],
    ]
    assert {r.workload_name for r in runs} == {"tiny@concurrency=1", "tiny@concurrency=8"}
    assert {r.series for r in runs} == {"tiny"}
    grouped = runs_of(sweep=sweep, repeats=2, order="grouped", targets=["a"])
    assert [(r.point, r.spec.repeat) for r in grouped] == [(1, 0), (1, 1), (8, 0), (8, 1)]


def test_every_point_draws_prompts_of_its_own_the_same_for_every_target() -> None:
    runs = runs_of(sweep={"axis": "concurrency", "values": [1, 8, 16]}, repeats=2)
    seeds = {(r.point, r.spec.seed) for r in runs}
    assert len(seeds) == len({seed for _, seed in seeds}) == 3
    assert (1, 9) in seeds


def test_without_a_sweep_there_is_no_point() -> None:
    assert {(r.series, r.point) for r in runs_of()} == {(None, None)}


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ({"workloads": [BASE | {"arrival": {"kind": "trace", "path": "x"}}]}, "workloads.0.arrival"),
        ({"sweep": {"axis": "rate_per_s", "values": [1], "arrival": "gamma"}}, "sweep.burstiness"),
        ({"sweep": {"axis": "rate_per_s", "values": [1e5]}}, "workloads.0"),
        ({"workloads": [BASE | {"name": "x" * 100}]}, "workloads.0"),
    ],
)
def test_what_cannot_be_swept_is_refused_with_its_field(job: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        runs_of(**{"sweep": {"axis": "rate_per_s", "values": [1, 2]}} | job)
    assert [problem.field for problem in caught.value.problems][:1] == [field]


def test_a_sweep_counts_against_the_size_of_a_job() -> None:
    sweep = {"axis": "rate_per_s", "low": 1, "high": 2, "steps": 100}
    with pytest.raises(BadInput, match="20000 runs"):
        runs_of(sweep=sweep, repeats=100)
