"""The client's error out of known answers, what of a Summary it reaches, and when it takes the run's word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench_runner.measure.calibration import Calibration, ClientError, KnownAnswer, errors_of
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.summary import RunFacts, summarise
from bench_runner.measure.validity import judge
from tests.fakes.records import make_record

US = 1_000


def answer(*, sent_late_us: int = 0, events_late_us: tuple[int, ...] = (0, 0, 0)) -> KnownAnswer:
    tokens = tuple(200_000_000 + 20_000_000 * k for k in range(len(events_late_us)))
    seen = tuple(token + late * US for token, late in zip(tokens, events_late_us, strict=True))
    return KnownAnswer(sent_late_us * US, seen, 0, tokens)


def error(found: ClientError | None) -> ClientError:
    assert found is not None
    return found


def test_a_client_without_error_has_none() -> None:
    found = errors_of([answer(), answer()])
    assert found == {
        "ttft": ClientError(2, 0.0, 0.0),
        "event": ClientError(6, 0.0, 0.0),
        "event_gap": ClientError(4, 0.0, 0.0),
        "tpot": ClientError(2, 0.0, 0.0),
    }


def test_stamps_that_are_late_are_seen_as_such() -> None:
    found = errors_of([answer(events_late_us=(50, 50, 50))] * 10)
    assert error(found["event"]).bias_s == pytest.approx(50e-6)
    assert error(found["ttft"]).bias_s == pytest.approx(50e-6)
    # what is the same for all stamps is in no gap
    assert error(found["event_gap"]).noise_floor_s == 0.0
    assert error(found["tpot"]).noise_floor_s == 0.0


def test_a_send_stamp_that_is_late_makes_the_ttft_short() -> None:
    found = errors_of([answer(sent_late_us=300)])
    assert error(found["ttft"]).bias_s == pytest.approx(-300e-6)
    assert error(found["ttft"]).noise_floor_s == pytest.approx(300e-6)
    assert error(found["event"]).noise_floor_s == 0.0


def test_one_late_stamp_is_in_two_gaps_and_in_the_floor_not_in_the_bias() -> None:
    found = errors_of([answer(events_late_us=(0, 900, 0))] + [answer()] * 3)
    assert error(found["event"]).bias_s == 0.0
    assert error(found["event"]).noise_floor_s > 500e-6
    assert error(found["event_gap"]).n == 8


def test_a_stream_that_was_cut_counts_as_far_as_it_went() -> None:
    whole = answer()
    cut = replace(whole, event_ns=whole.event_ns[:1])
    found = errors_of([cut, replace(whole, event_ns=())])
    assert error(found["event"]).n == 1
    assert found["event_gap"] is None
    assert found["tpot"] is None
    assert errors_of([])["ttft"] is None


def calibration(floor_s: float = 1e-5, event_floor_s: float | None = None, **other: Any) -> Calibration:
    small, event = ClientError(100, 0.0, floor_s), ClientError(100, 0.0, event_floor_s or floor_s)
    values: dict[str, Any] = {
        "requests": 100,
        "events": 4700,
        "span_s": 1.0,
        "took_s": 1.4,
        "processes": 1,
        "fresh_connections": True,
        "tls": False,
        "complete": True,
        "ttft": small,
        "event": event,
        "event_gap": event,
        "tpot": None,
        "server_late_p99_s": 1e-4,
        "client_lag_p99_s": 1e-3,
        "client_lag_max_s": 2e-3,
        "sent_clock": "kernel",
        "event_clock": "kernel",
    }
    return Calibration(**(values | other))


RECORDS = [make_record(k, events_ms=(100 + k, 200 + k, 300 + k)) for k in range(100)]


def test_figures_below_the_noise_floor_are_named() -> None:
    summary, _ = summarise(RECORDS, RunFacts("burst"))
    fine = calibration().describe(summary)
    assert fine["below_noise_floor"] == []
    # all gaps are the same: their spread is finer than any client can tell
    assert set(fine["spread_below_noise_floor"]) == {"event_gap_s", "itl_s"}
    coarse = calibration(0.05, 0.15).describe(summary)
    assert set(coarse["below_noise_floor"]) == {"event_gap_s", "itl_s"}
    assert set(coarse["spread_below_noise_floor"]) == {
        "ttft_s",
        "scheduled_ttft_s",
        "e2e_s",
        "scheduled_e2e_s",
        "event_gap_s",
        "itl_s",
    }
    assert fine["ttft"] == {"n": 100, "bias_s": 0.0, "noise_floor_s": 1e-5}


def test_what_the_summary_has_not_is_not_named() -> None:
    assert calibration(1.0).describe({"ttft_s": None})["below_noise_floor"] == []


@pytest.mark.parametrize(
    ("ttft_floor_s", "event_floor_s", "words"),
    [
        (0.0028, None, None),  # 2 % of a TTFT of 150 ms is 3 ms, of gaps of 100 ms 2 ms
        (0.0001, 0.0019, None),
        (0.0031, 0.0001, "TTFT by up to 3.10 ms"),
        (0.0001, 0.0021, "event stamps by up to 2.10 ms"),
    ],
)
def test_a_floor_above_its_share_takes_the_run_s_word(
    ttft_floor_s: float, event_floor_s: float | None, words: str | None
) -> None:
    seen = judge(Evidence(RECORDS, calibration=calibration(ttft_floor_s, event_floor_s or 0.0001)))
    reasons = [reason for reason in seen.reasons if reason.code == "calibration"]
    if words is None:
        assert reasons == []
    else:
        assert reasons[0].severity == "inconclusive"
        assert words in reasons[0].message


def test_a_machine_that_took_the_cpu_meanwhile_is_named() -> None:
    def message(**counters: float) -> str:
        seen = judge(Evidence(RECORDS, calibration=calibration(0.0031, **counters)))
        return next(reason.message for reason in seen.reasons if reason.code == "calibration")

    assert message().endswith("limit 2.00 ms)")
    assert message(cpu_wait_s=0.0, stolen_s=0.08).endswith("; meanwhile the hypervisor took 80 ms")
    assert "; meanwhile it waited 12 ms for a CPU that other processes had, and the" in message(
        cpu_wait_s=0.012, stolen_s=0.01
    )


def test_a_millisecond_is_never_too_much() -> None:
    quick = [make_record(k, events_ms=(5, 6, 7)) for k in range(10)]
    good = judge(Evidence(quick, calibration=calibration(0.0009)))
    bad = judge(Evidence(quick, calibration=calibration(0.0011)))
    assert [reason.code for reason in bad.reasons if reason not in good.reasons] == ["calibration"]


def test_a_run_that_was_not_calibrated_is_not_judged_by_it() -> None:
    assert not [reason for reason in judge(Evidence(RECORDS)).reasons if reason.code == "calibration"]
