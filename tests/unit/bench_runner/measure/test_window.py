"""What counts in a measured window, worked by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_runner.measure.record import RequestRecord
from bench_runner.measure.summary import RunFacts, summarise
from bench_runner.measure.window import count_arrived, extend_to_last_send, sent_within
from engines.contract import FailureKind
from tests.fakes.records import START_NS, make_record


def at(ms: float) -> int:
    return START_NS + round(ms * 1e6)


def facts(start_ms: float, end_ms: float, **more: Any) -> RunFacts:
    return RunFacts("poisson", window=(START_NS, at(9000)), measured=(at(start_ms), at(end_ms)), **more)


def one(index: int, sent_ms: float, **more: Any) -> RequestRecord:
    """Sent then, four tokens from 100 ms on, 100 ms apart."""
    return make_record(index, sent_ms=sent_ms, events_ms=tuple(sent_ms + k for k in (100, 200, 300, 400)), **more)


def test_the_window_ends_with_the_last_send() -> None:
    records = [one(0, 10), make_record(1, sent_ms=None, events_ms=(), failure=FailureKind.CONNECT), one(2, 700)]
    assert extend_to_last_send(records, (at(0), at(500))) == (at(0), at(700))
    assert extend_to_last_send(records, (at(0), at(800))) == (at(0), at(800))
    assert extend_to_last_send(records, None) is None


def test_requests_of_the_ramp_up_are_left_out_and_those_never_sent_are_not() -> None:
    refused = make_record(3, sent_ms=None, events_ms=(), failure=FailureKind.CONNECT, scheduled_ns=at(600))
    records = [one(0, 100), one(1, 500), one(2, 900), refused]
    assert [record.index for record in sent_within(records, (at(500), at(900)))] == [1, 2, 3]
    assert sent_within(records, None) == records


def test_a_steady_run_by_hand() -> None:
    # one request each 100 ms from 0 to 1,900 ms, four tokens each: 10 requests and 40 tokens a second
    records = [one(k, 100 * k) for k in range(20)]
    summary, failures = summarise(records, facts(500, 1950, slo_ttft_s=0.15))
    assert failures == {}
    # those sent at 500 ms, …, 1,900 ms
    assert (summary["requests"], summary["successes"], summary["total_output_tokens"]) == (15, 15, 60)
    assert summary["duration_s"] == pytest.approx(1.45)
    assert summary["sent_requests_per_s"] == pytest.approx(15 / 1.45)
    # last tokens at 600, 700, …, 1,900 ms; first tokens too; tokens at each of them, four at a time
    assert summary["requests_per_s"] == pytest.approx(14 / 1.45)
    assert summary["output_tokens_per_s"] == pytest.approx(14 * 4 / 1.45)
    assert summary["input_tokens_per_s"] == pytest.approx(14 * 10 / 1.45)
    assert summary["output_characters_per_s"] == pytest.approx(14 * 4 * 5 / 1.45)
    assert summary["sustained_output_tokens_per_s"] == summary["output_tokens_per_s"]
    assert summary["goodput_requests_per_s"] == summary["scheduled_goodput_requests_per_s"] == pytest.approx(15 / 1.45)
    assert summary["ttft_s"]["n"] == 15
    assert summary["window"] == {
        "ramp_up_s": pytest.approx(0.5),
        "length_s": pytest.approx(1.45),
        "drain_s": pytest.approx(0.351),
        "left_out_requests": 5,
        "left_out_failures": 0,
        # not the 15 and 60 that were sent in it
        "arrived_requests": 14,
        "arrived_input_tokens": 140,
        "arrived_output_tokens": 56,
    }


def test_an_engine_that_cannot_keep_up_is_not_given_the_rate_that_was_offered() -> None:
    # 100 requests within a second, one answered each second
    records = [make_record(k, sent_ms=10 * k, events_ms=(1000 * k + 500, 1000 * k + 900)) for k in range(100)]
    summary, _ = summarise(records, facts(0, 1000))
    assert summary["sent_requests_per_s"] == pytest.approx(100)
    assert summary["requests_per_s"] == pytest.approx(1)
    assert summary["output_tokens_per_s"] == pytest.approx(2)
    assert summary["window"]["drain_s"] == pytest.approx(98.901)


def test_late_sends_count_from_the_moment_they_were_due() -> None:
    late = [one(k, 500 + 100 * k, scheduled_ns=at(100 * k)) for k in range(5)]
    summary, _ = summarise(late, facts(0, 400, slo_ttft_s=0.3))
    assert summary["duration_s"] == pytest.approx(0.9)
    assert summary["goodput_requests_per_s"] == pytest.approx(5 / 0.9)
    assert summary["scheduled_goodput_requests_per_s"] == 0
    assert summary["scheduled_ttft_s"]["p50"] == pytest.approx(0.6)


def test_a_closed_loop_has_no_scheduled_goodput() -> None:
    records = [one(k, 100 * k) for k in range(5)]
    closed = RunFacts("closed_loop", window=(at(0), at(900)), measured=(at(100), at(100)), slo_ttft_s=1)
    summary, _ = summarise(records, closed)
    assert summary["scheduled_goodput_requests_per_s"] is None
    assert summary["goodput_requests_per_s"] == pytest.approx(4 / 0.3)
    burst, _ = summarise(records, RunFacts("burst", slo_ttft_s=1))
    assert burst["scheduled_goodput_requests_per_s"] == burst["goodput_requests_per_s"]
    assert burst["window"] is None


def test_a_window_in_which_nothing_was_sent_measures_nothing() -> None:
    summary, failures = summarise([one(0, 100)], facts(5000, 0))
    assert failures == {}
    assert (summary["requests"], summary["duration_s"], summary["output_tokens_per_s"]) == (0, None, None)
    assert summary["ttft_s"] is None
    assert summary["window"]["left_out_requests"] == 1


def test_failures_of_the_ramp_up_are_counted_apart() -> None:
    records = [make_record(0, sent_ms=1, events_ms=(), failure=FailureKind.REJECTED), one(1, 600)]
    summary, failures = summarise(records, facts(500, 1500))
    assert failures == {}
    assert summary["failure_rate"] == 0
    assert summary["window"]["left_out_failures"] == 1


def test_tokens_are_spread_by_what_the_wire_tells() -> None:
    told = make_record(0, events_ms=(100, 200), event_tokens=(1, 3), engine_output_tokens=8)
    untold = make_record(1, events_ms=(100, 200), event_tokens=(-1, -1), engine_output_tokens=8)

    def tokens(record: RequestRecord) -> float | None:
        found = count_arrived([record], (at(150), at(300)), inputs=None, outputs=lambda r: r.engine_output_tokens)
        return found.output_tokens

    assert tokens(told) == pytest.approx(6)
    assert tokens(untold) == pytest.approx(4)
    assert tokens(make_record(2, engine_output_tokens=None)) is None


LIVES = st.lists(st.tuples(st.integers(0, 2000), st.lists(st.integers(1, 2000), min_size=1, max_size=6).map(sorted)))


@given(LIVES, st.lists(st.integers(-10, 5000), min_size=1, max_size=6, unique=True).map(sorted))
def test_windows_side_by_side_bring_what_the_whole_brings(lives: list[Any], cuts: list[int]) -> None:
    records = [
        make_record(k, sent_ms=sent, events_ms=tuple(sent + ms for ms in events))
        for k, (sent, events) in enumerate(lives)
    ]
    edges = [at(-20), *(at(cut) for cut in cuts), at(6000)]
    parts = [
        count_arrived(records, window, inputs=lambda r: r.engine_input_tokens, outputs=lambda r: r.engine_output_tokens)
        for window in pairwise(edges)
    ]
    assert sum(part.requests for part in parts) == len(records)
    assert sum(part.output_tokens or 0 for part in parts) == pytest.approx(sum(len(events) for _, events in lives))
    assert sum(part.input_tokens or 0 for part in parts) == pytest.approx(10 * len(records))
