"""Targets × workloads × repeats, in the order asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from bench_runner.plan.presets import PRESETS
from engines.spec import TargetSpec
from services.domain.errors import BadInput
from services.domain.expansion import expand
from services.domain.job import JobSpec, PlannedRun, Starts


def target(engine: str = "vllm", port: int = 1, **more: Any) -> dict[str, Any]:
    return {"engine": engine, "model": "m", "reach": {"kind": "attached", "url": f"http://127.0.0.1:{port}"}} | more


STORED = {"a": TargetSpec.model_validate(target()), "b": TargetSpec.model_validate(target("tgi", 2))}


def stops_early(spec: TargetSpec) -> bool:
    return spec.engine == "tgi"


def runs_of(**job: Any) -> tuple[PlannedRun, ...]:
    body = {"targets": ["a", "b"], "workloads": ["burst-100x128x128", "published-a100"]} | job
    return expand(JobSpec.model_validate(body), STORED, presets=PRESETS, stops_early=stops_early, seed=9)


def order_of(runs: tuple[PlannedRun, ...]) -> str:
    return " ".join(f"{r.target_name}{r.workload_name[0]}{r.spec.repeat}" for r in runs)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("interleaved", "ab0 bb0 ap0 bp0 ab1 bb1 ap1 bp1"),
        ("abba", "ab0 bb0 ap0 bp0 bb1 ab1 bp1 ap1"),
        ("grouped", "ab0 ab1 ap0 ap1 bb0 bb1 bp0 bp1"),
    ],
)
def test_orders(order: str, expected: str) -> None:
    runs = runs_of(order=order, repeats=2)
    assert order_of(runs) == expected
    assert [run.position for run in runs] == list(range(8))


def test_a_workload_s_own_seed_goes_before_the_job_s_and_is_the_run_s() -> None:
    own = PRESETS["burst-100x128x128"].model_dump() | {"name": "own", "seed": 4}
    runs = runs_of(targets=["a"], workloads=[own, "published-a100"])
    assert [run.spec.seed for run in runs] == [4, 9]
    assert [run.spec.workload.seed for run in runs] == [None, None]
    points = runs_of(targets=["a"], workloads=[own], sweep={"axis": "concurrency", "values": [1, 2]})
    assert points[0].spec.seed == 4
    assert points[1].spec.seed not in (4, 9)


def test_every_run_carries_what_changes_its_number() -> None:
    runs = runs_of(repeats=2, slo={"ttft_s": 1}, limits={"run_timeout_s": 5}, keep_raw=True, scrape_interval_s=None)
    assert {run.spec.seed for run in runs} == {9}
    assert {run.spec.limits.run_timeout_s for run in runs} == {5}
    assert all(run.spec.keep_raw and run.spec.slo is not None for run in runs)
    assert {run.spec.scrape_interval_s for run in runs} == {None}
    assert runs[0].spec.workload == PRESETS["burst-100x128x128"]
    # Both arms of a repeat draw the same prompts; what tells them apart is the target alone.
    assert runs[0].spec.model_copy(update={"target": None}) == runs[1].spec.model_copy(update={"target": None})


def test_an_arm_is_its_target_with_other_flags() -> None:
    arm = {"like": "a", "name": "matched", "flags": ["--x"], "flag_class": "matched", "url": "http://127.0.0.1:3"}
    plain, matched = runs_of(targets=["a", arm], workloads=["burst-100x128x128"])
    assert (matched.target_name, matched.spec.target.flags) == ("matched", ("--x",))
    assert matched.spec.target.model == plain.spec.target.model
    assert (plain.resources, matched.resources) == (("server:127.0.0.1:1",), ("server:127.0.0.1:3",))


def test_an_arm_of_an_attached_target_has_no_arguments() -> None:
    with pytest.raises(BadInput) as caught:
        runs_of(targets=[{"like": "a", "name": "x", "args": ["--y"]}])
    assert [p.field for p in caught.value.problems] == ["targets.0.args"]


def test_an_arm_may_not_carry_credentials_in() -> None:
    with pytest.raises(BadInput) as caught:
        runs_of(targets=[{"like": "a", "name": "x", "url": "http://u:secret-word@127.0.0.1"}])
    assert [p.field for p in caught.value.problems] == ["targets.0.url"]
    assert "secret-word" not in str(caught.value)


def test_every_unknown_name_is_told() -> None:
    with pytest.raises(BadInput) as caught:
        runs_of(targets=["a", "x", "y"])
    assert [p.field for p in caught.value.problems] == ["targets.1", "targets.2"]
    with pytest.raises(BadInput) as caught:
        runs_of(workloads=["none"])
    assert "burst-100x128x128" in caught.value.problems[0].mend


def test_a_job_has_a_largest_size() -> None:
    targets = [{"name": f"t{k}", **target(port=k + 1)} for k in range(10)]
    assert len(runs_of(targets=targets, workloads=["burst-100x128x128"], repeats=1000)) == 10_000
    with pytest.raises(BadInput, match="20000 runs"):
        runs_of(targets=targets, repeats=1000)


MATCHED = {
    "name": "matched",
    "requests": 2,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 8}},
    "output_tokens": {"kind": "fixed", "tokens": 8},
    "lengths": "length-matched",
}


def test_matched_lengths_come_from_the_same_repeat_of_the_engine_that_may_stop_early() -> None:
    runs = runs_of(workloads=[MATCHED], repeats=2, order="abba")
    assert order_of(runs) == "am0 bm0 bm1 am1"
    assert [run.lengths_from for run in runs] == [1, None, None, 2]


def test_given_lengths_need_no_giver() -> None:
    runs = runs_of(workloads=[MATCHED | {"matched_output_tokens": [5, 6]}])
    assert {run.lengths_from for run in runs} == {None}


@pytest.mark.parametrize("targets", [["a"], ["b", {"name": "c", **target("tgi", 5)}]])
def test_lengths_that_nobody_or_everybody_would_give_are_refused(targets: list[Any]) -> None:
    with pytest.raises(BadInput) as caught:
        runs_of(targets=targets, workloads=[MATCHED])
    assert caught.value.problems[0].field == "workloads.matched.lengths"


def test_a_long_workload_is_not_multiplied_by_its_runs() -> None:
    long = {
        "name": "long",
        "requests": 1,
        "prompts": {"kind": "text", "text": "x" * 1_000_000},
        "output_tokens": {"kind": "fixed", "tokens": 1},
    }
    short = long | {"name": "short", "prompts": {"kind": "text", "text": "x"}}
    assert len(runs_of(workloads=[short, long], repeats=30)) == 120
    with pytest.raises(BadInput) as refused:
        runs_of(workloads=[short, long], repeats=60)
    assert [problem.field for problem in refused.value.problems] == ["workloads.1"]
    assert len(runs_of(workloads=[short], repeats=1000)) == 2000


def starts_of(runs: tuple[PlannedRun, ...]) -> str:
    """Target and start of each block of runs that share an engine."""
    blocks = dict.fromkeys((run.target_name, run.start) for run in runs)
    return " ".join(f"{name}{start}" for name, start in blocks)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "a0 b0 b1 a1 a2 b2"),
        ({"order": "interleaved"}, "a0 b0 a1 b1 a2 b2"),
        ({"order": "grouped"}, "a0 a1 a2 b0 b1 b2"),
    ],
)
def test_starts_are_blocks_that_go_there_and_back(more: dict[str, Any], expected: str) -> None:
    runs = runs_of(workloads=["burst-100x128x128"], starts={}, **more)
    assert starts_of(runs) == expected
    assert len(runs) == 2 * 3 * 5
    assert [run.burst for run in runs[:6]] == [0, 1, 2, 3, 4, 0]
    blocks = [(run.target_name, run.start) for run in runs]
    assert sum(one != other for one, other in pairwise(blocks)) == 5, "no block is broken up"
    for name in ("a", "b"):
        assert sorted(run.spec.repeat for run in runs if run.target_name == name) == [*range(15)]


def test_every_workload_of_the_job_has_its_bursts_in_each_start() -> None:
    runs = runs_of(starts={"count": 2, "bursts": 2})
    assert order_of(runs) == "ab0 ab1 ap0 ap1 bb0 bb1 bp0 bp1 bp2 bp3 bb2 bb3 ap2 ap3 ab2 ab3"
    assert [(run.start, run.burst) for run in runs[-2:]] == [(1, 0), (1, 1)]
    assert {(run.start, run.burst) for run in runs_of()} == {(None, None)}


def test_a_sweep_s_points_are_cells_of_each_start() -> None:
    sweep = {"axis": "concurrency", "values": [1, 2]}
    runs = runs_of(targets=["a"], workloads=["burst-100x128x128"], sweep=sweep, starts={"count": 2, "bursts": 1})
    assert [(run.point, run.start, run.spec.repeat) for run in runs] == [(1, 0, 0), (2, 0, 0), (2, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"repeats": 2}, "leave out repeats"),
        ({"search": {"axis": "concurrency", "low": 1, "high": 8, "slo": {"ttft_s": 1}}}, "leave out starts"),
    ],
)
def test_what_starts_do_not_go_with_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        runs_of(starts={}, **more)


def test_bursts_count_towards_a_job_s_largest_size() -> None:
    with pytest.raises(BadInput, match="100 starts × 100 bursts are 40000 runs") as caught:
        runs_of(starts={"count": 100, "bursts": 100})
    assert caught.value.problems[0].field == "starts"


def test_a_job_of_starts_can_be_posted_again_as_it_is_shown() -> None:
    body = {"targets": ["a"], "workloads": ["burst-100x128x128"]}
    job = JobSpec.model_validate(body | {"starts": {"count": 2}})
    assert (job.order, job.starts) == ("abba", Starts(count=2, bursts=5))
    assert JobSpec.model_validate(job.model_dump(mode="json")) == job
    assert "starts" not in JobSpec.model_validate(body).model_dump(mode="json")


def test_matched_lengths_come_from_the_same_burst_of_the_engine_that_may_stop_early() -> None:
    runs = runs_of(workloads=[MATCHED], starts={"count": 2, "bursts": 2})
    assert order_of(runs) == "am0 am1 bm0 bm1 bm2 bm3 am2 am3"
    assert [run.lengths_from for run in runs] == [2, 3, None, None, None, None, 4, 5]
