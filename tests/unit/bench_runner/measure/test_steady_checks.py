"""Was it long enough, and the same all the time? Each fault beside the same run without it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from bench_runner.measure.evidence import Evidence
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import Reason, ValidityState
from bench_runner.measure.validity import judge
from tests.fakes.records import START_NS, make_record


def found(code: str, records: list[RequestRecord], **facts: Any) -> Reason | None:
    return next((reason for reason in judge(Evidence(records, **facts)).reasons if reason.code == code), None)


def codes(records: list[RequestRecord], **facts: Any) -> set[str]:
    reasons = judge(Evidence(records, counted_cached_tokens=0, **facts)).reasons
    return {reason.code for reason in reasons}


def open_loop(
    seconds: float, took_ms: Callable[[float], float], *, rate: float = 20.0, seed: int = 1
) -> list[RequestRecord]:
    """Requests at random moments, each taking what is said for its moment, give or take a tenth."""
    rng = Random(seed)
    records: list[RequestRecord] = []
    at_ms = 0.0
    while (at_ms := at_ms + rng.expovariate(rate) * 1e3) < seconds * 1e3:
        took = took_ms(at_ms / 1e3) * rng.uniform(0.9, 1.1)
        events = (at_ms + took / 4, at_ms + took / 2, at_ms + took)
        records.append(make_record(len(records), sent_ms=at_ms, events_ms=events))
    return records


def closed_loop(slots: int, waves: int, took_ms: Callable[[int], float] = lambda _: 500.0) -> list[RequestRecord]:
    """Slots that send again as soon as they are answered, one wave behind the other."""
    records: list[RequestRecord] = []
    at_ms = [float(slot) for slot in range(slots)]
    for wave in range(waves):
        for slot in range(slots):
            took = took_ms(wave) * (1 + 0.01 * (slot % 5))
            end = at_ms[slot] + took
            events = (at_ms[slot] + took / 4, at_ms[slot] + took / 2, end)
            records.append(make_record(len(records), sent_ms=at_ms[slot], events_ms=events))
            at_ms[slot] = end + 2
    return records


STEADY: dict[str, Any] = {"arrival_kind": "poisson"}


@pytest.mark.parametrize("seconds", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("seed", range(10))
def test_steady_open_loops_are_valid(seed: int, seconds: float) -> None:
    records = open_loop(seconds, lambda _: 300.0, seed=seed)
    assert judge(Evidence(records, **STEADY)).state is ValidityState.VALID
    assert codes(records, **STEADY) == set()


@pytest.mark.parametrize("slots", [2, 8, 32])
@pytest.mark.parametrize("waves", [2, 4, 14, 40])
def test_steady_closed_loops_are_valid(slots: int, waves: int) -> None:
    assert codes(closed_loop(slots, waves), arrival_kind="closed_loop", concurrency=slots) == set()


def test_an_engine_that_falls_behind_is_not_stationary() -> None:
    """Latency grows all the time, as it does beyond what an engine can serve."""
    assert "not_stationary" in codes(open_loop(30.0, lambda at_s: 300.0 + 40 * at_s), **STEADY)


def test_an_engine_that_slows_down_is_not_stationary() -> None:
    slower = closed_loop(8, 60, lambda wave: 500.0 if wave < 30 else 650.0)
    reason = found("not_stationary", slower, arrival_kind="closed_loop", concurrency=8)
    assert reason is not None
    assert reason.severity == "inconclusive"
    assert "in the first half of the steady window" in reason.message


def test_longer_requests_by_plan_are_no_drift() -> None:
    slower = closed_loop(8, 60, lambda wave: 500.0 if wave < 30 else 650.0)
    planned = [
        make_record(
            r.index,
            sent_ms=((r.sent_ns or 0) - START_NS) / 1e6,
            events_ms=tuple((ns - START_NS) / 1e6 for ns in r.event_ns),
            planned_input_tokens=10 if r.index < 240 else 90,
            engine_input_tokens=10 if r.index < 240 else 90,
        )
        for r in slower
    ]
    assert codes(planned, arrival_kind="closed_loop", concurrency=8) == set()


@pytest.mark.parametrize("kind", ["ramp", "trace"])
def test_loads_that_are_planned_to_change_are_not_asked_to_stay(kind: str) -> None:
    assert codes(open_loop(30.0, lambda at_s: 300.0 + 40 * at_s), arrival_kind=kind) == set()


def test_an_open_loop_shorter_than_its_requests_is_too_short() -> None:
    reason = found("too_short", open_loop(2.0, lambda _: 1900.0), **STEADY)
    assert reason is not None
    assert reason.severity == "inconclusive"
    assert "shorter than 2 of its requests" in reason.message
    assert found("too_short", open_loop(6.0, lambda _: 1900.0), **STEADY) is None


def test_a_closed_loop_needs_more_requests_than_slots() -> None:
    facts: dict[str, Any] = {"arrival_kind": "closed_loop", "concurrency": 8}
    reason = found("too_short", closed_loop(8, 2)[:12], **facts)
    assert reason is not None
    assert reason.message.startswith("12 requests fill 8 slots 1.5 times")
    assert found("too_short", closed_loop(8, 2), **facts) is None
    # As many slots as requests is a burst by another name; one slot has no edges.
    assert found("too_short", closed_loop(8, 1), **facts) is None
    assert found("too_short", closed_loop(1, 1), arrival_kind="closed_loop", concurrency=1) is None


def test_a_burst_of_moments_is_noted() -> None:
    reason = found("too_short", [make_record(k, events_ms=(3, 5)) for k in range(3)])
    assert reason is not None
    assert reason.severity == "note"
    assert found("too_short", [make_record(k) for k in range(3)]) is None


def test_an_engine_far_beyond_what_it_can_serve_is_told_in_a_short_window_too() -> None:
    assert "not_stationary" in codes(open_loop(10.0, lambda at_s: 300.0 + 800 * at_s), **STEADY)


def test_littles_law_is_broken_where_requests_pile_up() -> None:
    """Every thirtieth request goes on long after the window, and so its time is no time of the window."""
    records = open_loop(30.0, lambda _: 300.0)
    stalled = [
        r if k % 30 else make_record(k, sent_ms=((r.sent_ns or 0) - START_NS) / 1e6, events_ms=(31_000, 90_000))
        for k, r in enumerate(records)
    ]
    reason = found("littles_law", stalled, **STEADY)
    assert reason is not None
    assert reason.severity == "inconclusive"
    assert "rate × latency gives" in reason.message
    assert found("littles_law", records, **STEADY) is None


def test_the_engines_own_gauges_are_held_against_ours() -> None:
    records = closed_loop(8, 20)
    facts: dict[str, Any] = {"arrival_kind": "closed_loop", "concurrency": 8}
    moments = [START_NS + k * 10**9 for k in range(1, 9)]

    def said(value: float) -> tuple[tuple[int, int, float], ...]:
        return tuple((at, at + 1_000_000, value) for at in moments)

    assert codes(records, **facts, gauges=said(8.0)) == set()
    reason = found("littles_law", records, **facts, gauges=said(14.0))
    assert reason is not None
    assert reason.severity == "inconclusive"
    assert reason.message.startswith("the engine says that 14.0 requests were running or waiting, ours were 8.0")
    assert found("littles_law", records, **facts, gauges=said(14.0)[:4]) is None
    # Fewer than ours: a gateway holds some, which is part of what is measured.
    held = found("littles_law", records, **facts, gauges=said(3.0))
    assert held is not None
    assert held.severity == "note"


def test_a_gauge_is_as_old_as_its_scrape_was_slow() -> None:
    """Read between two moments, between which ours were sent: whatever lies between the two counts is right."""
    records = open_loop(20.0, lambda _: 300.0, rate=40.0)
    in_between = [(START_NS + k * 10**9 - 250_000_000, START_NS + k * 10**9, 12.0) for k in range(1, 20)]
    before, after = (
        [sum((r.sent_ns or 0) <= at < (r.closed_ns or 0) for r in records) for at in moments]
        for moments in zip(*[(asked, answered) for asked, answered, _ in in_between], strict=True)
    )
    honest = [
        (asked, answered, (a + b) / 2) for (asked, answered, _), a, b in zip(in_between, before, after, strict=True)
    ]
    assert found("littles_law", records, **STEADY, gauges=honest) is None


def test_a_slow_scrape_accuses_nobody_whose_load_went_up_and_down_meanwhile() -> None:
    """Ten come and go within each scrape, and none is there where it begins or ends."""
    records = [
        make_record(k, sent_ms=second * 1e3, events_ms=(second * 1e3 + 300, second * 1e3 + 600))
        for k, second in enumerate(k // 10 for k in range(80))
    ]
    told = [(START_NS + k * 10**9 - 200_000_000, START_NS + k * 10**9 + 800_000_000, 10.0) for k in range(1, 7)]
    assert found("littles_law", records, **STEADY, gauges=told) is None
    crowded = [(asked, answered, 20.0) for asked, answered, _ in told]
    reason = found("littles_law", records, **STEADY, gauges=crowded)
    assert reason is not None
    assert reason.message.startswith("the engine says that 20.0 requests were running or waiting, ours were 10.0")


def test_gauges_of_a_burst_are_left_alone() -> None:
    burst = [make_record(k, events_ms=(1000.0, 8000.0)) for k in range(8)]
    gauges = [(START_NS + k * 10**9, START_NS + k * 10**9, 30.0) for k in range(1, 8)]
    assert found("littles_law", burst, gauges=gauges) is None
    assert found("littles_law", burst, arrival_kind="closed_loop", concurrency=8, gauges=gauges) is None
