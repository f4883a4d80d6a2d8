"""What the run stood on: a host whose CPU others took, an engine started anew, hardware nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from bench_runner.measure.evidence import Evidence
from bench_runner.measure.result import Reason
from bench_runner.measure.validity import judge
from tests.fakes.records import START_NS, make_record

GOOD = [make_record(k) for k in range(100)]


def found(code: str, records: Any = GOOD, **facts: Any) -> Reason | None:
    return next((reason for reason in judge(Evidence(records, **facts)).reasons if reason.code == code), None)


def severity(code: str, records: Any = GOOD, **facts: Any) -> str | None:
    reason = found(code, records, **facts)
    return reason.severity if reason else None


@pytest.mark.parametrize(
    ("stolen_s", "expected"), [(None, None), (0.0, None), (0.1, None), (0.5, "note"), (1.1, "inconclusive")]
)
def test_time_the_hypervisor_took(stolen_s: float | None, expected: str | None) -> None:
    assert severity("cpu_stolen", wall_s=10.0, stolen_s=stolen_s) == expected


def test_shares_of_a_moment_are_noise() -> None:
    assert severity("cpu_stolen", wall_s=0.1, stolen_s=0.05) is None
    assert severity("cpu_wait", wall_s=0.1, cpu_wait_s=0.05) is None


def test_waiting_for_a_cpu_spoils_stamps_that_are_not_the_kernels() -> None:
    own = [make_record(k, event_clock="user") for k in range(100)]
    assert severity("cpu_wait", wall_s=10.0, cpu_wait_s=1.0) == "note"
    assert severity("cpu_wait", own, wall_s=10.0, cpu_wait_s=1.0) == "inconclusive"
    assert severity("cpu_wait", own, wall_s=10.0, cpu_wait_s=0.4) is None
    reason = found("cpu_wait", own, wall_s=10.0, cpu_wait_s=1.0, preemptions=312)
    assert reason is not None
    assert "for 1.00 s of 10.00 s and took it away 312 times" in reason.message


def test_a_late_client_names_who_took_its_time() -> None:
    late = [make_record(k, sent_ms=80, scheduled_ns=START_NS) for k in range(100)]
    reason = found("send_lag", late, cpu_wait_s=0.4, stolen_s=0.03)
    assert reason is not None
    assert reason.message.endswith(
        "within the window it waited 400 ms for a CPU that other processes had, and the hypervisor took 30 ms"
    )
    alone = found("send_lag", late, cpu_wait_s=0.0, stolen_s=0.0)
    assert alone is not None
    assert alone.message.endswith("the limit is 20.0 ms")
    lag = found("client_lag", max_lag_s=1.5, cpu_wait_s=0.4)
    assert lag is not None
    assert "it waited 400 ms" in lag.message


def test_an_engine_started_anew() -> None:
    assert severity("engine_restarted", engine_restarted=True) == "invalid"
    assert severity("engine_restarted") is None


def test_hardware_and_precision_nobody_knows_are_noted_with_those_that_are_known() -> None:
    reason = found("unknown_hardware", hardware="Z9000")
    assert reason is not None
    assert reason.severity == "note"
    assert "'Z9000' is not known" in reason.message
    assert "A100-80GB, A100-40GB, H100" in reason.message
    reason = found("unknown_precision", precision="INT3")
    assert reason is not None
    assert "FP32, BF16" in reason.message
    assert severity("unknown_hardware", hardware="a100 80gb", precision="bf16") is None
    assert severity("unknown_precision", hardware="a100 80gb", precision="bf16") is None
