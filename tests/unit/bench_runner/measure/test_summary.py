"""Summaries worked by hand, and what is None where nothing was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_runner.measure.cards import CardLog
from bench_runner.measure.metrics import METRICS
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.summary import RunFacts, summarise
from engines.cards.reading import CardFacts, CardReading
from engines.contract import FailureKind
from tests.fakes.records import START_NS, make_record

BURST = RunFacts("burst")
#: two successes: first tokens at 100 and 150 ms, three tokens each, last at 500 ms; the first was sent at 1 ms
PAIR = [
    make_record(0, sent_ms=1, events_ms=(100, 200, 300), scheduled_ns=START_NS),
    make_record(1, sent_ms=2, events_ms=(150, 250, 500), scheduled_ns=START_NS),
]


def summary_of(records: list[RequestRecord], facts: RunFacts = BURST) -> dict[str, Any]:
    return summarise(records, facts)[0]


def test_a_burst_by_hand() -> None:
    summary, failures = summarise(PAIR, BURST)
    assert failures == {}
    assert (summary["requests"], summary["successes"]) == (2, 2)
    assert summary["duration_s"] == pytest.approx(0.499)
    assert (summary["total_input_tokens"], summary["total_output_tokens"]) == (20, 6)
    assert summary["input_tokens_per_s"] == pytest.approx(20 / 0.499)
    assert summary["output_tokens_per_s"] == pytest.approx(6 / 0.499)
    assert summary["total_tokens_per_s"] == pytest.approx(26 / 0.499)
    assert summary["requests_per_s"] == pytest.approx(2 / 0.499)
    assert summary["output_characters_per_s"] == pytest.approx(30 / 0.499)
    assert summary["input_characters_per_s"] == pytest.approx(80 / 0.499)
    assert summary["failure_rate"] == 0
    assert summary["ttft_s"]["min"] == pytest.approx(0.099)
    assert summary["ttft_s"]["max"] == pytest.approx(0.148)
    assert summary["tpot_s"]["p50"] == pytest.approx((0.100 + 0.175) / 2)
    assert summary["tokens_per_s_per_user"]["max"] == pytest.approx(10)
    assert summary["e2e_s"]["max"] == pytest.approx(0.498)
    assert summary["closed_s"]["max"] == pytest.approx(0.499)
    assert summary["scheduled_ttft_s"]["min"] == pytest.approx(0.100)
    assert summary["scheduled_e2e_s"]["max"] == pytest.approx(0.500)
    assert summary["send_lag_s"]["max"] == pytest.approx(0.002)
    assert (summary["itl_s"]["n"], summary["itl_s"]["max"]) == (4, pytest.approx(0.25))
    assert summary["event_gap_s"] == summary["itl_s"]
    # every slot decodes from 150 to 300 ms: two tokens of the first request, one of the second
    assert summary["sustained_output_tokens_per_s"] == pytest.approx(3 / 0.15)


def test_every_metric_is_there_in_its_kind_and_as_plain_json() -> None:
    summary = summary_of(PAIR, RunFacts("burst", model="Mistral-7B-Instruct-v0.2", hardware="H100", slo_ttft_s=1.0))
    assert json.loads(json.dumps(summary)) == summary
    for name, metric in METRICS.items():
        value = summary[name]
        assert value is None or isinstance(value, dict) == (metric.kind == "distribution"), name
    absent = ["sent_requests_per_s", "connect_s", "joules_per_output_token", "output_tokens_per_s_per_w"]
    assert [name for name in METRICS if summary[name] is None] == absent


def test_nothing_measured_is_none_and_never_zero() -> None:
    for records in ([], [make_record(sent_ms=None, events_ms=(), failure=FailureKind.CANCELLED)]):
        summary = summary_of(records)
        assert {name for name in METRICS if summary[name] is not None} == set()
        assert summary["total_output_tokens"] is None
        assert summary["token_count_source"] is None
        assert summary["token_counts"]["planned"] == {"input": None, "output": None}


def card_log(start_ms: float, end_ms: float, watts: float = 400) -> CardLog:
    """One card, read every 10 ms, and its counter."""
    steps = range(round((end_ms - start_ms) / 10) + 1)
    moments = [START_NS + round((start_ms + 10 * step) * 1e6) for step in steps]
    readings = [CardReading(at, at, energy_j=watts * (at - START_NS) / 1e9) for at in moments]
    return CardLog([(CardFacts(0, "H100", None, 700, True, False), readings)], own=True)


def test_a_token_costs_its_share_of_the_cards_energy_over_the_whole_window() -> None:
    facts = RunFacts("burst", window=(START_NS, START_NS + 500_000_000), cards=card_log(0, 500))
    summary = summary_of(PAIR, facts)
    assert summary["joules_per_output_token"] == pytest.approx(400 * 0.5 / 6)
    assert summary["output_tokens_per_s_per_w"] == pytest.approx(6 / 0.5 / 400)


def test_where_a_window_is_measured_energy_and_tokens_are_those_of_it() -> None:
    whole = (START_NS, START_NS + 500_000_000)
    # Both are sent in it, and the second has not ended by its end.
    facts = RunFacts("poisson", window=whole, measured=(START_NS, START_NS + 300_000_000))
    summary = summary_of(PAIR, replace(facts, cards=card_log(0, 500)))
    tokens = summary["window"]["arrived_output_tokens"]
    assert 0 < tokens < 6
    assert summary["joules_per_output_token"] == pytest.approx(400 * 0.3 / tokens)


def test_energy_without_a_token_is_no_figure() -> None:
    failed = [make_record(0, events_ms=(), failure=FailureKind.REJECTED)]
    facts = RunFacts("burst", window=(START_NS, START_NS + 500_000_000), cards=card_log(0, 500))
    summary = summary_of(failed, facts)
    assert summary["joules_per_output_token"] is summary["output_tokens_per_s_per_w"] is None


def test_everything_failed_leaves_only_what_the_client_did() -> None:
    records = [make_record(k, events_ms=(), failure=FailureKind.REJECTED, connect_s=0.001) for k in range(3)]
    summary, failures = summarise(records, BURST)
    assert failures == {"rejected": 3}
    assert {name for name in METRICS if summary[name] is not None} == {"connect_s", "send_lag_s", "failure_rate"}
    assert summary["failure_rate"] == 1
    assert summary["successes"] == 0


def test_failures_count_as_sent_but_neither_as_tokens_nor_as_an_end() -> None:
    early = make_record(2, sent_ms=0, events_ms=(50, 900), failure=FailureKind.BROKEN_STREAM)
    summary, failures = summarise([*PAIR, early], BURST)
    assert failures == {"broken_stream": 1}
    assert summary["duration_s"] == pytest.approx(0.500)
    assert summary["total_output_tokens"] == 6
    assert summary["ttft_s"]["n"] == 2
    assert summary["failure_rate"] == pytest.approx(1 / 3)


def test_requests_we_cancelled_are_not_the_engines_failures() -> None:
    summary, failures = summarise([*PAIR, make_record(2, events_ms=(), failure=FailureKind.CANCELLED)], BURST)
    assert failures == {"cancelled": 1}
    assert summary["failure_rate"] == 0
    assert summary["requests"] == 3


def test_a_closed_loop_divides_by_its_window() -> None:
    window = (START_NS, START_NS + 2_000_000_000)
    summary = summary_of(PAIR, RunFacts("closed_loop", window=window, concurrency=2))
    assert summary["duration_s"] == 2
    assert summary["output_tokens_per_s"] == 3
    assert summary["scheduled_ttft_s"] is None
    assert summary["scheduled_e2e_s"] is None


def test_only_independent_requests_claim_percentiles() -> None:
    many = [make_record(k) for k in range(50)]
    assert not any(summary_of(many)["ttft_s"]["supported"].values())
    claimed = summary_of(many, RunFacts("closed_loop", concurrency=5))
    assert claimed["ttft_s"]["supported"] == {"p50": True, "p90": True, "p95": False, "p99": False, "p999": False}
    # 100 gaps, of 50 requests
    assert claimed["event_gap_s"]["n"] == 100
    assert claimed["event_gap_s"]["supported"] == claimed["ttft_s"]["supported"]


def test_gaps_are_not_latencies_between_tokens_where_an_event_carried_several() -> None:
    summary = summary_of([PAIR[0], make_record(1, event_tokens=(1, 2, 1), engine_output_tokens=4)])
    assert summary["itl_s"] is None
    assert summary["event_gap_s"]["n"] == 4


def test_the_local_count_serves_only_where_the_engine_gave_none_at_all() -> None:
    silent: dict[str, Any] = {"engine_output_tokens": None, "engine_input_tokens": None, "count_source": None}
    local: dict[str, Any] = {"local_output_tokens": 4, "local_input_tokens": 9}
    summary = summary_of([make_record(k, **silent, **local) for k in range(2)])
    assert (summary["total_input_tokens"], summary["total_output_tokens"]) == (18, 8)
    assert (summary["token_count_source"], summary["input_token_count_source"]) == ("local", "local")
    assert summary["token_counts"]["engine"] == {"input": None, "output": None}

    half = summary_of([make_record(0, **local), make_record(1, **silent)])
    assert half["total_output_tokens"] is None
    assert half["output_tokens_per_s"] is None
    assert half["token_count_source"] is None


def test_four_counts_stand_side_by_side() -> None:
    off = make_record(planned_output_tokens=5, engine_output_tokens=4, local_output_tokens=3, count_source="details")
    summary = summary_of([off], replace(BURST, counted_input_tokens=20, counted_output_tokens=8))
    assert {name: counts["output"] for name, counts in summary["token_counts"].items()} == {
        "planned": 5,
        "engine": 4,
        "local": 3,
        "counters": 8,
    }
    assert summary["token_counts"]["counters"]["input"] == 20
    assert summary_of([off])["token_counts"]["counters"] == {"input": None, "output": None}
    assert summary["total_output_tokens"] == 4
    assert summary["token_count_source"] == "details"


def test_goodput_wants_every_limit_kept() -> None:
    def goodput(**slo: float) -> Any:
        failed = make_record(2, events_ms=(3,), failure=FailureKind.ABORTED)
        return summary_of([*PAIR, failed], RunFacts("burst", **slo))["goodput_requests_per_s"]  # type: ignore[arg-type]

    duration_s = 0.500
    assert goodput() is None
    assert goodput(slo_ttft_s=0.12) == pytest.approx(1 / duration_s)
    assert goodput(slo_ttft_s=0.2, slo_e2e_s=1) == pytest.approx(2 / duration_s)
    assert goodput(slo_ttft_s=0.2, slo_tpot_s=0.11) == pytest.approx(1 / duration_s)
    assert goodput(slo_e2e_s=0.001) == 0


def test_one_token_has_no_tpot_and_misses_no_limit_on_it() -> None:
    summary = summary_of([make_record(events_ms=(100,))], RunFacts("burst", slo_tpot_s=0.001))
    assert summary["tpot_s"] is None
    assert summary["tokens_per_s_per_user"] is None
    assert summary["goodput_requests_per_s"] == pytest.approx(10)


def test_the_published_row_reaches_a_quarter_of_the_roofline() -> None:
    records = [
        make_record(k, events_ms=(1000, 7050), engine_input_tokens=267, engine_output_tokens=128) for k in range(101)
    ]
    facts = RunFacts("burst", model="mistralai/Mistral-7B-Instruct-v0.2", hardware="A100-80GB", precision="BF16")
    summary = summary_of(records, facts)
    assert summary["roofline"]["least_s"] == pytest.approx(1.80, abs=0.005)
    assert summary["roofline_ratio"] == pytest.approx(0.26, abs=0.005)
    assert summary["output_tokens_per_s"] == pytest.approx(12_928 / 7.05)


def test_rates_a_gpu() -> None:
    summary = summary_of(PAIR, RunFacts("burst", gpus=4))
    assert summary["output_tokens_per_s_per_gpu"] == pytest.approx(6 / 0.499 / 4)


def test_one_at_a_time_gives_a_speed_for_each_input_length() -> None:
    records = [
        make_record(0, sent_ms=0, events_ms=(100, 1000), planned_input_tokens=1),
        make_record(1, sent_ms=1000, events_ms=(1500, 5000), planned_input_tokens=6144),
    ]
    table = summary_of(records, RunFacts("closed_loop", concurrency=1))["by_input_tokens"]
    assert table == {
        "1": {"requests": 1, "output_tokens_per_s": pytest.approx(2.0)},
        "6144": {"requests": 1, "output_tokens_per_s": pytest.approx(0.5)},
    }
    assert summary_of(records, RunFacts("closed_loop", concurrency=2))["by_input_tokens"] is None
    assert summary_of(records[:1], RunFacts("closed_loop", concurrency=1))["by_input_tokens"] is None


def test_resends_and_shared_stamps_are_counted() -> None:
    summary = summary_of([make_record(resends=1, shared_events=2), make_record(1, shared_events=1)])
    assert (summary["resends"], summary["shared_events"]) == (1, 3)


def test_percentiles_beyond_which_too_many_stamps_are_late_are_not_claimed() -> None:
    def supported(late: int, name: str = "event_gap_s") -> list[str]:
        """With so many of 5,000 requests of two gaps each that share a stamp with a later event."""
        records = [
            make_record(k, events_ms=(100, 300, 300), shared_events=1, merged_events=1, client_wait_s=0.1)
            if k < late
            else make_record(k)
            for k in range(5_000)
        ]
        summary = summary_of(records, RunFacts("poisson"))
        assert summary["late_events"] == late
        assert summary["itl_s"] == summary["event_gap_s"]
        return [percentile for percentile, claimed in summary[name]["supported"].items() if claimed]

    assert supported(10) == ["p50", "p90", "p95", "p99", "p999"]
    assert supported(11) == ["p50", "p90", "p95", "p99"]
    assert supported(101) == ["p50", "p90", "p95"]
    assert supported(101, "ttft_s") == ["p50", "p90", "p95", "p99", "p999"]  # their first tokens are in time


LIVES = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.lists(st.integers(1, 400), min_size=1, max_size=8).map(sorted),
        st.sampled_from([None, None, FailureKind.REJECTED, FailureKind.CANCELLED]),
    ),
    min_size=1,
    max_size=20,
)


@given(LIVES)
def test_rates_and_counts_belong_together_whatever_the_requests_did(lives: list[Any]) -> None:
    records = [
        make_record(k, sent_ms=sent, events_ms=tuple(sent + ms for ms in events), failure=failure)
        for k, (sent, events, failure) in enumerate(lives)
    ]
    summary, failures = summarise(records, BURST)
    good = [record for record in records if record.ok]
    assert summary["successes"] + sum(failures.values()) == summary["requests"] == len(records)
    if not good:
        assert summary["duration_s"] is None
        assert summary["ttft_s"] is None
        return
    assert summary["total_output_tokens"] == sum(len(record.event_ns) for record in good)
    assert summary["output_tokens_per_s"] * summary["duration_s"] == pytest.approx(summary["total_output_tokens"])
    assert summary["ttft_s"]["n"] == len(good)
    assert summary["ttft_s"]["max"] <= summary["e2e_s"]["max"] <= summary["duration_s"] + 1e-9
    assert 0 <= summary["failure_rate"] <= 1
