"""Flags of `enginebench run` that say how a load is sent."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from bench_runner.errors import DatasetError, SpecError
from bench_runner.plan.presets import PRESETS
from bench_runner.plan.spec import (
    Burst,
    ClosedLoop,
    Constant,
    Gamma,
    Limits,
    Poisson,
    Ramp,
    Slo,
    Step,
    Trace,
    WorkloadSpec,
)
from services.cli import run
from services.cli.load_flags import WrongUse

BASE = ("run", "--engine", "vllm", "--url", "http://127.0.0.1:9", "--model", "m")


def spec_of(*flags: str) -> Any:
    parser = argparse.ArgumentParser()
    run.add_parser(parser.add_subparsers())
    return run._spec(parser.parse_args([*BASE, *flags]))


def workload_of(*flags: str) -> WorkloadSpec:
    workload = spec_of(*flags).workload
    assert isinstance(workload, WorkloadSpec)
    return workload


def test_no_flag_leaves_the_workload() -> None:
    assert workload_of() == PRESETS["burst-100x128x128"]
    assert workload_of("--workload", "chat-1k-1k") == PRESETS["chat-1k-1k"]


@pytest.mark.parametrize(
    ("flags", "arrival"),
    [
        ("--rate 20", Poisson(rate_per_s=20)),
        ("--rate 20 --arrival poisson --max-concurrency 8", Poisson(rate_per_s=20, max_concurrency=8)),
        ("--rate 20 --concurrency 8", Poisson(rate_per_s=20, max_concurrency=8)),
        ("--rate 0.5 --arrival constant", Constant(rate_per_s=0.5)),
        ("--rate 20 --burstiness 0.5", Gamma(rate_per_s=20, burstiness=0.5)),
        ("--rate 20 --arrival gamma --burstiness 2", Gamma(rate_per_s=20, burstiness=2)),
        ("--ramp 1:9.5:60 --requests 5", Ramp(from_rate_per_s=1, to_rate_per_s=9.5, duration_s=60)),
        (
            "--steps 10:30,20:30 --spacing even --requests 5",
            Ramp(steps=(Step(rate_per_s=10, duration_s=30), Step(rate_per_s=20, duration_s=30)), spacing="even"),
        ),
        ("--concurrency 4", ClosedLoop(concurrency=4)),
        ("--concurrency 4 --arrival closed_loop --think-time 0.5", ClosedLoop(concurrency=4, think_time_s=0.5)),
        (
            "--concurrency 4 --think-time 2 --think-time-kind exponential",
            ClosedLoop(concurrency=4, think_time_s=2, think_time="exponential"),
        ),
        ("--arrival burst --workload chat-1k-1k", Burst()),
        ("--arrival closed_loop --workload chat-1k-1k", ClosedLoop(concurrency=32)),
        ("--think-time 1 --workload chat-1k-1k", ClosedLoop(concurrency=32, think_time_s=1)),
    ],
)
def test_what_the_flags_ask_for(flags: str, arrival: object) -> None:
    assert workload_of(*flags.split()).arrival == arrival


def test_count_and_duration() -> None:
    assert workload_of("--rate", "20").requests == 100
    timed = workload_of("--rate", "20", "--duration", "60", "--ramp-up", "5")
    assert (timed.duration_s, timed.ramp_up_s, timed.requests) == (60, 5, 1418)
    assert workload_of("--rate", "20", "--duration", "60", "--requests", "50").requests == 50
    closed = workload_of("--concurrency", "4", "--duration", "60", "--requests", "5000")
    assert (closed.duration_s, closed.requests) == (60, 5000)


def test_a_ramp_goes_on_for_its_own_time_unless_told_otherwise() -> None:
    assert workload_of("--ramp", "0:10:20").duration_s == 20
    assert workload_of("--steps", "5:20,10:30").duration_s == 50
    assert workload_of("--ramp", "0:10:20", "--duration", "40").duration_s == 40
    assert workload_of("--ramp", "0:10:20", "--requests", "40").duration_s is None


def test_a_trace_is_replayed_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = ({"timestamp": 1000 * k, "input_length": 5, "output_length": 5} for k in range(7))
    path.write_text("\n".join(map(json.dumps, rows)))
    flags = ("--trace", str(path), "--trace-format", "mooncake", "--time-scale", "0.5")
    workload = workload_of(*flags)
    assert workload.arrival == Trace(path=str(path), format="mooncake", time_scale=0.5)
    assert workload.requests == 7
    assert workload_of(*flags, "--requests", "3").requests == 3
    timed = workload_of(*flags, "--duration", "1.2")
    assert (timed.requests, timed.duration_s) == (3, 1.2)
    with pytest.raises(DatasetError, match=r"trace\.jsonl, line 1: unknown field"):
        workload_of("--trace", str(path))


def test_flags_lie_over_a_file_s_own_arrival(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "duration_s: 30\nramp_up_s: 3\narrival: {kind: gamma, rate_per_s: 5, burstiness: 0.2, max_concurrency: 9}\n"
        "prompts: {kind: synthetic, input_tokens: {kind: fixed, tokens: 10}}\noutput_tokens: {kind: fixed, tokens: 5}\n"
    )
    own = workload_of("--workload", str(path))
    assert own.requests > 150
    faster = workload_of("--workload", str(path), "--rate", "8")
    assert faster.arrival == Gamma(rate_per_s=8, burstiness=0.2, max_concurrency=9)
    burst = workload_of("--workload", str(path), "--arrival", "burst", "--requests", "9")
    assert (burst.arrival, burst.duration_s, burst.ramp_up_s) == (Burst(), None, None)


def test_limits_of_the_run() -> None:
    assert spec_of().limits == Limits()
    assert spec_of("--timeout", "5", "--run-timeout", "7200").limits == Limits(request_timeout_s=5, run_timeout_s=7200)


def test_limits_of_the_slo() -> None:
    assert spec_of().slo is None
    assert spec_of("--slo-ttft", "0.5", "--slo-tpot", "0.05").slo == Slo(ttft_s=0.5, tpot_s=0.05)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--arrival poisson", "--arrival poisson needs --rate R"),
        ("--arrival gamma --rate 5", "--arrival gamma needs --burstiness B"),
        ("--arrival closed_loop", "--arrival closed_loop needs --concurrency C"),
        ("--arrival ramp", "--arrival ramp needs --ramp FROM:TO:SECONDS or --steps"),
        ("--arrival trace", "--arrival trace needs --trace FILE"),
        (
            "--arrival burst --concurrency 4",
            "--concurrency does not go with a burst arrival; it belongs to closed_loop",
        ),
        ("--arrival burst --rate 4", "--rate does not go with a burst arrival"),
        ("--rate 4 --think-time 1", "--think-time does not go with a poisson arrival; it belongs to closed_loop"),
        ("--rate 4 --arrival constant --burstiness 2", "--burstiness does not go with a constant arrival"),
        ("--max-concurrency 4", "--max-concurrency does not go with a burst arrival"),
        ("--duration 10", "--duration does not go with a burst arrival"),
        ("--ramp-up 10", "--ramp-up does not go with a burst arrival"),
        ("--time-scale 2", "--time-scale does not go with a burst arrival; it belongs to trace"),
        ("--concurrency 4 --duration 10", "--duration of a closed loop needs --requests N"),
        ("--ramp 1:2", "--ramp: '1:2' is not FROM:TO:SECONDS, in numbers"),
        ("--ramp 1:2:x", "--ramp: '1:2:x' is not FROM:TO:SECONDS"),
        ("--steps 1:2,3", "--steps: '3' is not RATE:SECONDS"),
        ("--ramp 1:2:3 --steps 1:2", "--ramp and --steps are two ways"),
    ],
)
def test_flags_that_do_not_go_together_say_what_to_mend(flags: str, message: str) -> None:
    with pytest.raises(WrongUse) as caught:
        spec_of(*flags.split())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ("--rate 0", "workload.arrival.rate_per_s"),
        ("--rate nan", "workload.arrival.rate_per_s"),
        ("--rate 20 --duration -1", "workload.duration_s"),
        ("--rate 20 --duration 5 --ramp-up 5", "workload"),
        ("--rate 90000 --duration 600", "workload.requests"),
        ("--rate 20 --max-concurrency 0", "workload.arrival.max_concurrency"),
        ("--concurrency 2 --think-time-kind exponential", "workload.arrival"),
        ("--ramp 0:0:9", "workload.arrival"),
    ],
)
def test_figures_out_of_range_name_their_field(flags: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(*flags.split())
    assert caught.value.field == field


def test_wrong_use_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    run.add_parser(parser.add_subparsers())
    for flags in (("--arrival", "poisson"), ("--rate", "0"), ("--slo-ttft", "-1"), ("--trace", "nowhere.jsonl")):
        assert run.execute(parser.parse_args([*BASE, *flags])) == 2
        assert capsys.readouterr().err.startswith("enginebench run: ")
