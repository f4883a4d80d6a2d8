"""The engine's own gauges over the window, as they are kept and as they are judged."""

from __future__ import annotations

import json

import pytest

from bench_runner.measure.telemetry import describe_server, describe_telemetry, requests_in_engine
from engines.watch import Reading

WINDOW = 1_000_000_000, 3_000_000_000
READINGS = [
    Reading(900_000_000, 901_000_000, {"requests_running": 9.0, "requests_waiting": 0.0}),
    Reading(1_100_000_000, 1_102_000_000, {"requests_running": 4.0, "requests_waiting": 2.0}),
    Reading(1_300_000_000, 1_306_000_000, {"requests_running": 5.0, "kv_cache_usage_ratio": 0.123456789}),
    Reading(2_999_000_000, 3_001_000_000, {"requests_running": 1.0, "requests_waiting": 0.0}),
]
BEFORE = {
    "requests_running": 1.0,
    "time_to_first_token_seconds_sum": 10.0,
    "time_to_first_token_seconds_count": 8.0,
    "queue_time_seconds_sum": 1.0,
    "queue_time_seconds_count": 8.0,
    "prefix_cache_queries_total": 100.0,
    "preemptions_total": 3.0,
    "process_start_time_seconds": 5.0,
}
AFTER = {
    "requests_running": 0.0,
    "time_to_first_token_seconds_sum": 12.0,
    "time_to_first_token_seconds_count": 12.0,
    "queue_time_seconds_sum": 1.1,
    "queue_time_seconds_count": 12.0,
    "prefix_cache_queries_total": 148.0,
    "prefix_cache_hits_total": 16.0,
    "preemptions_total": 3.0,
    "process_start_time_seconds": 5.0,
}


def test_the_series_has_one_column_a_name_and_only_the_window() -> None:
    told = describe_telemetry(READINGS, WINDOW, {}, {})
    assert told is not None
    assert told["counters"] == {"before": None, "after": None}
    assert set(told) == {"scrape_s", "at_s", "series", "counters", "server"}
    assert {name: told[name] for name in ("scrape_s", "at_s", "series")} == {
        "scrape_s": {"p50": 0.004, "max": 0.006},
        "at_s": [0.101, 0.303],
        "series": {
            "kv_cache_usage_ratio": [None, 0.123457],
            "requests_running": [4, 5],
            "requests_waiting": [2, None],
        },
    }
    assert json.loads(json.dumps(told)) == told


def test_no_reading_is_no_telemetry() -> None:
    assert describe_telemetry([], WINDOW, {}, {}) is None
    assert describe_telemetry(READINGS[:1], WINDOW, {}, {}) is None
    assert describe_telemetry([], WINDOW, {"requests_running": 0.0}, {"requests_running": 0.0}) is None


def test_when_the_process_started_is_no_series() -> None:
    reading = Reading(1_100_000_000, 1_102_000_000, {"process_start_time_seconds": 1.7e9})
    told = describe_telemetry([reading], WINDOW, {}, {})
    assert told is not None
    assert told["series"] == {}


def test_requests_in_the_engine_are_both_gauges_or_nothing() -> None:
    assert requests_in_engine(READINGS, WINDOW) == ((1_100_000_000, 1_102_000_000, 6.0),)


def test_the_servers_own_means_are_what_its_counters_moved_by() -> None:
    told = describe_server(READINGS[1:3], BEFORE, AFTER)
    assert told == {
        "ttft_mean_s": 0.5,
        "ttft_requests": 4,
        "queue_mean_s": 0.025,
        "queue_requests": 4,
        "kv_cache_usage_mean_ratio": 0.123457,
        "kv_cache_usage_max_ratio": 0.123457,
        "prefix_cache_queried_tokens": 48,
        "prefix_cache_hit_tokens": 16,
        "preemptions": 0,
    }


def test_counters_are_kept_without_readings_and_without_gauges() -> None:
    told = describe_telemetry([], WINDOW, BEFORE, AFTER)
    assert told is not None
    assert set(told) == {"counters", "server"}
    assert told["counters"]["before"] == {
        name: BEFORE[name] for name in BEFORE if not name.startswith(("requests", "pro"))
    }
    assert told["counters"]["after"]["time_to_first_token_seconds_sum"] == 12.0
    assert told["server"]["kv_cache_usage_mean_ratio"] is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, AFTER),
        (BEFORE, {}),
        (BEFORE, AFTER | {"process_start_time_seconds": 9.0}),
        (BEFORE, AFTER | {"queue_time_seconds_sum": 0.5}),
        (BEFORE, {"requests_running": 1.0}),
    ],
    ids=["no first scrape", "no second", "started anew", "went back", "its counters are gone"],
)
def test_what_cannot_be_told_is_none_and_never_0(before: dict[str, float], after: dict[str, float]) -> None:
    assert set(describe_server([], before, after).values()) == {None}


def test_an_engine_without_a_time_to_first_token_has_none() -> None:
    """As TGI: its queue time is told."""
    of_tgi = [{name: each[name] for name in each if name.startswith("queue")} for each in (BEFORE, AFTER)]
    told = describe_server([], *of_tgi)
    assert (told["ttft_mean_s"], told["ttft_requests"], told["preemptions"]) == (None, None, None)
    assert told["queue_mean_s"] == 0.025


def test_no_request_is_no_mean() -> None:
    told = describe_server([], BEFORE, BEFORE)
    assert (told["ttft_mean_s"], told["ttft_requests"]) == (None, 0)
