"""Open loops, think times and runs by duration, through the real runner against the simulated engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench_runner.errors import SpecError
from bench_runner.load.contract import RunControl
from bench_runner.outcome import RunOutcome
from bench_runner.plan.arrival import schedule
from bench_runner.plan.spec import (
    ArrivalSpec,
    ClosedLoop,
    Constant,
    FixedLength,
    Limits,
    Poisson,
    Ramp,
    RunSpec,
    Slo,
    SyntheticPrompts,
    Trace,
    WorkloadSpec,
)
from bench_runner.runner import run
from engines.simulated.start import SimulatedServer, simulated_engine
from engines.spec import Attached, TargetSpec
from engines.target import Site
from services.cli.main import main

SEED = 20_26


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=10, never_stops=True) as started:
        yield started


def measure(
    server: SimulatedServer, arrival: ArrivalSpec, requests: int, limits: Limits | None = None, **workload: Any
) -> RunOutcome:
    spec = RunSpec(
        target=TargetSpec(engine="vllm", model=server.model, reach=Attached(url=server.url)),
        workload=WorkloadSpec(
            requests=requests,
            prompts=SyntheticPrompts(input_tokens=FixedLength(tokens=20)),
            output_tokens=FixedLength(tokens=8),
            arrival=arrival,
            **workload,
        ),
        limits=limits or Limits(run_timeout_s=60),
        slo=Slo(e2e_s=30),
        seed=SEED,
    )
    with tempfile.TemporaryDirectory() as folder:
        return run(spec, control=RunControl(), site=Site(Path(folder), {}))


def scheduled_gaps(outcome: RunOutcome) -> list[int]:
    return [b.scheduled_ns - a.scheduled_ns for a, b in pairwise(outcome.records)]


@pytest.mark.parametrize(
    "arrival",
    [
        Poisson(rate_per_s=60),
        Constant(rate_per_s=80),
        Ramp(from_rate_per_s=20, to_rate_per_s=120, duration_s=0.6),
    ],
)
def test_requests_are_scheduled_as_planned(server: SimulatedServer, arrival: ArrivalSpec) -> None:
    outcome = measure(server, arrival, 40)
    assert outcome.error is None
    planned = schedule(arrival, 40, seed=SEED, repeat=0, attempt=1).offsets_ns
    assert planned is not None
    assert scheduled_gaps(outcome) == [b - a for a, b in pairwise(planned)]
    assert all(record.ok for record in outcome.records)
    assert all((lag := record.send_lag_s) is not None and lag >= 0 for record in outcome.records)
    summary = outcome.result.summary
    assert summary["successes"] == 40
    assert summary["scheduled_ttft_s"]["mean"] >= summary["ttft_s"]["mean"]
    assert summary["sent_requests_per_s"] == pytest.approx(40 / summary["duration_s"])
    assert summary["scheduled_goodput_requests_per_s"] == summary["goodput_requests_per_s"] is not None
    assert summary["window"]["left_out_requests"] == 0


def test_a_duration_ends_an_open_loop_and_a_ramp_up_is_left_out(server: SimulatedServer) -> None:
    outcome = measure(server, Constant(rate_per_s=50), 1000, duration_s=1.0, ramp_up_s=0.4)
    assert outcome.error is None
    assert len(outcome.records) == 50
    window = outcome.result.summary["window"]
    assert window["ramp_up_s"] == pytest.approx(0.4)
    # Due before 400 ms were 20; those sent late may have slipped in.
    assert 0 < window["left_out_requests"] <= 20
    assert window["left_out_requests"] + outcome.result.summary["requests"] == 50
    assert outcome.result.failures == {}


def test_a_closed_loop_by_duration_leaves_what_it_did_not_send(server: SimulatedServer) -> None:
    arrival = ClosedLoop(concurrency=3, think_time_s=0.05)
    outcome = measure(server, arrival, 600, duration_s=0.8, ramp_up_s=0.2)
    assert outcome.error is None
    assert 3 < len(outcome.records) < 60
    assert outcome.result.failures == {}
    assert "failures" not in {reason.code for reason in outcome.result.validity.reasons}
    by_time = sorted(outcome.records, key=lambda record: record.sent_ns or 0)
    ends: list[int] = []
    for record in by_time:
        assert record.sent_ns is not None
        if len(ends) >= 3:
            # A slot sends again no sooner than its answer's end plus the time to think.
            assert record.sent_ns >= min(ends) + 50_000_000
            ends.remove(min(ends))
        assert record.closed_ns is not None
        ends.append(record.closed_ns)
    assert outcome.result.summary["window"]["left_out_requests"] >= 3


def test_the_cap_holds_and_what_it_held_back_counts_from_its_due_moment(server: SimulatedServer) -> None:
    outcome = measure(server, Constant(rate_per_s=400, max_concurrency=2), 30)
    assert outcome.error is None
    for record in outcome.records:
        assert record.sent_ns is not None
        others = (other for other in outcome.records if other is not record)
        under_way = [o for o in others if (o.sent_ns or 0) <= record.sent_ns < (o.closed_ns or 0)]
        assert len(under_way) < 2
    codes = {reason.code: reason.severity for reason in outcome.result.validity.reasons}
    assert codes["held_back_by_cap"] == "note"
    summary = outcome.result.summary
    assert summary["scheduled_e2e_s"]["mean"] > summary["e2e_s"]["mean"] + 0.02
    assert summary["sent_requests_per_s"] < 400


def test_a_trace_gives_moments_and_lengths(server: SimulatedServer, tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,37,4\n2023-11-16 18:15:47.6805900,50,7\n2023-11-16 18:15:49.1805900,64,2\n"
    )
    outcome = measure(server, Trace(path=str(path), format="azure", time_scale=0.1), 3)
    assert outcome.error is None
    assert [gap / 1e6 for gap in scheduled_gaps(outcome)] == pytest.approx([100, 150], abs=0.01)
    assert [record.planned_output_tokens for record in outcome.records] == [4, 7, 2]
    assert [record.engine_output_tokens for record in outcome.records] == [4, 7, 2]
    assert [record.engine_input_tokens for record in outcome.records] == [37, 50, 64]


def test_a_broken_trace_ends_the_run_with_its_line(server: SimulatedServer, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"offset_s": 0}\n{"offset_s": "soon"}\n')
    outcome = measure(server, Trace(path=str(path)), 2)
    assert isinstance(outcome.error, SpecError)
    assert "line 2: offset_s must be a number" in str(outcome.error)
    assert outcome.error.field == "workload.arrival.path"


def test_sending_that_outlasts_the_run_s_limit_is_refused_before_it_begins(server: SimulatedServer) -> None:
    outcome = measure(server, Constant(rate_per_s=1), 100, limits=Limits(run_timeout_s=50))
    assert isinstance(outcome.error, SpecError)
    assert outcome.error.field == "limits.run_timeout_s"
    assert outcome.records == ()


def test_from_the_command_line(server: SimulatedServer, capsys: pytest.CaptureFixture[str]) -> None:
    target = ["--engine", "vllm", "--url", server.url, "--model", server.model]
    load = ["--rate", "40", "--arrival", "poisson", "--requests", "20", "--input-tokens", "20", "--output-tokens", "8"]
    code = main(["run", *target, *load, "--slo-ttft", "5", "--json", "-"])
    result = json.loads(capsys.readouterr().out)
    assert code == (0 if result["validity"]["state"] == "VALID" else 1)
    assert result["spec"]["workload"]["arrival"] == {"kind": "poisson", "rate_per_s": 40, "max_concurrency": None}
    assert result["summary"]["successes"] == 20
    assert result["summary"]["scheduled_goodput_requests_per_s"] > 0
