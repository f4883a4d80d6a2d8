"""Planned faults, end to end: each is counted under its kind, and its fault-free twin is VALID."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import Limits
from engines.contract import Endpoint
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.calibration.truth import drive_simulated
from tests.fakes.verdicts import assert_valid_here

REQUESTS, TOKENS = 20, 48


@pytest.fixture(scope="module")
def vllm() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=2) as server:
        yield server


@pytest.fixture(scope="module")
def tgi() -> Iterator[SimulatedServer]:
    with simulated_engine("tgi-mistral-7b", speed=2) as server:
        yield server


def drive(server: SimulatedServer, *faults: dict[str, Any], **options: Any) -> RunOutcome:
    server.set_faults(*faults)
    try:
        return drive_simulated(server, requests=REQUESTS, input_tokens=32, output_tokens=TOKENS, **options)
    finally:
        server.set_faults()


def reason_codes(outcome: RunOutcome) -> set[str]:
    return {reason.code for reason in outcome.result.validity.reasons if reason.severity != "note"}


#: The probe is request number 1 of the fault's count, so every fifth hits four of twenty.
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "reset": ({"kind": "reset", "every": 5}, "broken_stream"),
    "status": ({"kind": "status", "status": 500, "every": 5}, "rejected"),
    "cut": ({"kind": "cut", "token": 20, "every": 5}, "broken_stream"),
    "cut-rst": ({"kind": "cut", "token": 20, "reset": True, "every": 5}, "broken_stream"),
    "error-event": ({"kind": "error_event", "token": 20, "every": 5}, "engine_error"),
    "abort": ({"kind": "abort", "token": 20, "every": 5}, "aborted"),
    "no-finish": ({"kind": "no_finish", "token": 20, "every": 5}, "incomplete"),
    "garbage": ({"kind": "garbage", "token": 20, "every": 5}, "malformed"),
    "stall": ({"kind": "stall", "token": 20, "seconds": 60, "every": 5}, "timeout"),
    "html": ({"kind": "html", "every": 5}, "malformed"),
    "redirect": ({"kind": "redirect", "every": 5}, "rejected"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_counted_under_its_kind(vllm: SimulatedServer, name: str) -> None:
    fault, kind = FAULTS[name]
    outcome = drive(vllm, fault, limits=Limits(request_timeout_s=5.0))
    result = outcome.result
    assert result.failures == {kind: 4}
    assert result.summary["successes"] == REQUESTS - 4
    # Throughput counts successes only.
    assert result.summary["total_output_tokens"] == (REQUESTS - 4) * TOKENS
    assert result.validity.state != "VALID"
    assert "failures" in reason_codes(outcome)
    assert result.outcome == "completed"
    # What the engine sent of a failed request is kept.
    failed = [record for record in outcome.records if not record.ok]
    assert all(record.index in outcome.raw or not record.event_ns for record in failed)


def test_the_fault_free_twin_is_valid(vllm: SimulatedServer, tgi: SimulatedServer) -> None:
    for server in (vllm, tgi):
        result = drive(server).result
        assert result.failures == {}
        assert_valid_here(result.validity.state, [r.code for r in result.validity.reasons if r.severity != "note"])
        assert result.summary["successes"] == REQUESTS
        assert result.environment["simulated"] is True


def test_an_engine_that_refuses_connections_fails_the_run_with_its_kind(vllm: SimulatedServer) -> None:
    outcome = drive(vllm, {"kind": "refuse"})
    assert outcome.result.outcome == "failed"
    assert outcome.result.failures == {"connect": 1}
    assert outcome.result.validity.state == "INVALID"
    assert reason_codes(outcome) == {"target_failed"}
    assert vllm.url in (outcome.result.error or "")


@pytest.mark.parametrize("endpoint", [Endpoint.NATIVE, Endpoint.COMPLETIONS])
def test_tgi_over_its_limit_refuses_inside_a_200_or_by_429(tgi: SimulatedServer, endpoint: Endpoint) -> None:
    tgi.set_faults()
    outcome = drive_simulated(tgi, requests=160, input_tokens=16, output_tokens=TOKENS, endpoint=endpoint)
    result = outcome.result
    assert set(result.failures) == {"rejected"}
    assert result.failures["rejected"] == 160 - 128
    assert result.summary["successes"] == 128
    assert result.validity.state == "INVALID"
    told = {record.failure.message for record in outcome.records if record.failure is not None}
    assert all("overload" in message.lower() for message in told)


def test_wrong_usage_is_off_plan(vllm: SimulatedServer) -> None:
    outcome = drive(vllm, {"kind": "wrong_usage", "tokens": 3, "every": 5})
    assert outcome.result.validity.state != "VALID"
    assert reason_codes(outcome) & {"tokens_off_plan", "token_counts_disagree", "failures"}


def test_coalesced_tokens_are_counted_by_the_engine_not_by_chunks(vllm: SimulatedServer) -> None:
    outcome = drive(vllm, {"kind": "coalesce", "tokens": 4})
    summary = outcome.result.summary
    assert summary["total_output_tokens"] == REQUESTS * TOKENS
    assert summary["itl_s"] is None
    assert summary["event_gap_s"]["n"] < REQUESTS * (TOKENS - 1) / 2
    assert_valid_here(
        outcome.result.validity.state, [r.code for r in outcome.result.validity.reasons if r.severity != "note"]
    )
