"""The engine's own gauges over the window, as they are kept and as they are judged."""

from __future__ import annotations

import json

from bench_runner.measure.telemetry import describe_telemetry, requests_in_engine
from engines.watch import Reading

WINDOW = 1_000_000_000, 3_000_000_000
READINGS = [
    Reading(900_000_000, 901_000_000, {"requests_running": 9.0, "requests_waiting": 0.0}),
    Reading(1_100_000_000, 1_102_000_000, {"requests_running": 4.0, "requests_waiting": 2.0}),
    Reading(1_300_000_000, 1_306_000_000, {"requests_running": 5.0, "kv_cache_usage_ratio": 0.123456789}),
    Reading(2_999_000_000, 3_001_000_000, {"requests_running": 1.0, "requests_waiting": 0.0}),
]


def test_the_series_has_one_column_a_name_and_only_the_window() -> None:
    told = describe_telemetry(READINGS, WINDOW)
    assert told == {
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
    assert describe_telemetry([], WINDOW) is None
    assert describe_telemetry(READINGS[:1], WINDOW) is None


def test_when_the_process_started_is_no_series() -> None:
    reading = Reading(1_100_000_000, 1_102_000_000, {"process_start_time_seconds": 1.7e9})
    told = describe_telemetry([reading], WINDOW)
    assert told is not None
    assert told["series"] == {}


def test_requests_in_the_engine_are_both_gauges_or_nothing() -> None:
    assert requests_in_engine(READINGS, WINDOW) == ((1_100_000_000, 1_102_000_000, 6.0),)
