"""Two scrapes of an engine's counters: how far they moved, and when they say nothing."""

from __future__ import annotations

import pytest

from bench_runner.measure.counters import Movement, counters_moved

BEFORE = {"prompt_tokens_total": 100.0, "generation_tokens_total": 50.0, "process_start_time_seconds": 5.0}
AFTER = {"prompt_tokens_total": 228.0, "generation_tokens_total": 178.0, "process_start_time_seconds": 5.0}


def test_what_was_counted_over_the_window() -> None:
    assert counters_moved(BEFORE, AFTER) == Movement(128, 128, None)


def test_a_counter_that_appears_began_at_nothing() -> None:
    assert counters_moved(BEFORE, AFTER | {"prefix_cache_hits_total": 16.0}) == Movement(128, 128, 16)


def test_finished_requests_are_counted_where_the_engine_does() -> None:
    before, after = BEFORE | {"requests_success_total": 4.0}, AFTER | {"requests_success_total": 9.0}
    assert counters_moved(before, after) == Movement(128, 128, None, 5)


def test_a_scrape_that_gave_nothing_says_nothing() -> None:
    assert counters_moved({}, {}) == Movement()
    assert counters_moved({}, AFTER) == Movement(unread="before")
    assert counters_moved(BEFORE, {}) == Movement(unread="after")


@pytest.mark.parametrize(
    "after",
    [
        AFTER | {"process_start_time_seconds": 9.0},
        AFTER | {"prompt_tokens_total": 28.0},
        {"prompt_tokens_total": 228.0, "process_start_time_seconds": 5.0},
        AFTER | {"queue_time_seconds_sum": 0.5},
    ],
    ids=["started anew", "went back", "is gone", "a sum went back"],
)
def test_an_engine_that_was_started_again(after: dict[str, float]) -> None:
    before = BEFORE | {"queue_time_seconds_sum": 0.75} if "queue_time_seconds_sum" in after else BEFORE
    assert counters_moved(before, after) == Movement(restarted=True)


def test_gauges_may_fall() -> None:
    assert not counters_moved(BEFORE | {"requests_running": 3.0}, AFTER | {"requests_running": 0.0}).restarted
