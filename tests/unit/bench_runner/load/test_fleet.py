"""How many processes a load gets, how it is dealt to them, how their outcomes are joined."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

from bench_runner.load.channel import WINDOW_ENDINGS, Outcome
from bench_runner.load.child import make_schedule
from bench_runner.load.contract import LoadPlan, SocketPolicy
from bench_runner.load.fleet import REQUESTS_PER_S_EACH, STAY_NS, STREAMS_EACH, choose_processes
from bench_runner.load.outcome import join_outcomes
from bench_runner.load.planfile import Plan
from bench_runner.load.schedule import SlotSchedule, TimedSchedule
from engines.contract import Origin, WireRequest


def make_plan(requests: int, **changes: Any) -> LoadPlan:
    fields: dict[str, Any] = {
        "origin": Origin(scheme="http", host="h", port=1, base_path="", address="127.0.0.1"),
        "requests": (WireRequest(0, b""),) * requests,
        "offsets_ns": None,
        "concurrency": None,
        "socket": SocketPolicy(fresh_connections=True, quick_ack=True),
        "request_timeout_s": 1.0,
        "connect_timeout_s": 1.0,
        "run_timeout_s": 1.0,
        "spool": Path(),
    }
    return LoadPlan(**(fields | changes))


def evenly(requests: int, per_s: int) -> array[int]:
    return array("q", [k * 1_000_000_000 // per_s for k in range(requests)])


@pytest.mark.parametrize(
    ("plan", "cores", "processes"),
    [
        (make_plan(100_000, concurrency=STREAMS_EACH), 64, 1),
        (make_plan(100_000, concurrency=STREAMS_EACH + 1), 64, 2),
        (make_plan(100_000, concurrency=20 * STREAMS_EACH), 64, 20),
        (make_plan(100_000, concurrency=20 * STREAMS_EACH), 8, 7),
        (make_plan(100_000, concurrency=20 * STREAMS_EACH), 2, 1),
        (make_plan(100_000, concurrency=20 * STREAMS_EACH), 1, 1),
        (make_plan(3 * STREAMS_EACH, offsets_ns=array("q", [0] * 3 * STREAMS_EACH)), 64, 3),
        # Spread over a long time, few are in flight at once …
        (make_plan(5 * STREAMS_EACH, offsets_ns=evenly(5 * STREAMS_EACH, 60)), 64, 1),
        # … many where each stays for a while …
        (make_plan(STREAMS_EACH * 9, offsets_ns=evenly(STREAMS_EACH * 9, 3 * STREAMS_EACH * 10**9 // STAY_NS)), 64, 3),
        # … and where a cap keeps them from piling up, the rate counts.
        (make_plan(9000, offsets_ns=evenly(9000, 2 * REQUESTS_PER_S_EACH), concurrency=10), 64, 2),
        (make_plan(10, concurrency=5, processes=4), 1, 4),
        (make_plan(3, concurrency=5, processes=4), 64, 3),
        (make_plan(0, concurrency=1, processes=4), 64, 1),
    ],
)
def test_choosing(plan: LoadPlan, cores: int, processes: int) -> None:
    assert choose_processes(plan, cores) == processes


def child_plan(count: int, *, offsets_ns: memoryview | None, concurrency: int | None) -> Plan:
    ends = memoryview(array("q", [0] * count))
    return Plan("", 1, "", False, True, True, concurrency, 1, 1, 1, offsets_ns, None, 1 << 62, "", ends, 0, -1)


def test_offsets_without_a_cap_are_dealt_round() -> None:
    plan = child_plan(5, offsets_ns=memoryview(array("q", [0, 1, 2, 3, 4])), concurrency=None)
    dealt = []
    for rank in range(2):
        schedule = make_schedule(plan, -1, rank, 2)
        assert isinstance(schedule, TimedSchedule)
        schedule.open(0)
        schedule.mark(10)
        dealt.append([schedule.take() for _ in range(2)])
    assert dealt == [[(0, 0), (2, 2)], [(1, 1), (3, 3)]]


@pytest.mark.parametrize(
    ("concurrency", "count", "size", "slots"), [(7, 100, 3, [3, 2, 2]), (1, 9, 3, [1, 0, 0]), (100, 4, 2, [2, 2])]
)
def test_slots_are_dealt_and_requests_drawn_from_one_counter(
    tmp_path: Path, concurrency: int, count: int, size: int, slots: list[int]
) -> None:
    from bench_runner.load.positions import open_shared

    fd = open_shared(tmp_path, count)
    plan = child_plan(count, offsets_ns=None, concurrency=concurrency)
    schedules = [make_schedule(plan, fd, rank, size) for rank in range(size)]
    drawn = []
    for schedule in schedules:
        assert isinstance(schedule, SlotSchedule)
        schedule.open(0)
        schedule.mark(0)
        mine = []
        while schedule.sendable:
            mine.append(schedule.take()[0])
        drawn.append(mine)
    assert [len(mine) for mine in drawn] == slots
    assert sorted(position for mine in drawn for position in mine) == list(range(sum(slots)))
    # Whoever is free first takes the next one.
    if count > sum(slots):
        schedules[0].release(0, 50)
        schedules[0].mark(50)
        assert schedules[0].take() == (sum(slots), 50)


def outcome(ended: str, **changes: int) -> Outcome:
    base = Outcome(WINDOW_ENDINGS.index(ended), 100, 200, 10, 5, 0, 3, 1, 7, 40, 20_000, 0)
    return base._replace(**changes)


def test_outcomes_are_summed_or_the_worst_is_taken() -> None:
    joined = join_outcomes(
        make_plan(1),
        [
            outcome("complete", end_ns=500, cpu_ns=10**9, preemptions=2),
            outcome(
                "complete",
                max_lag_ns=2 * 10**9,
                cpu_wait_ns=9 * 10**9,
                stolen_ms=50,
                priority=2,
                peak_memory_kib=30_000,
                clock_stepped=1,
            ),
        ],
        [],
    )
    assert (joined.ended, joined.window_start_ns, joined.window_end_ns) == ("complete", 100, 500)
    assert (joined.cpu_s, joined.busiest_cpu_s) == (1.00000001, 1.0)
    assert (joined.max_lag_s, joined.cpu_wait_s, joined.stolen_s) == (2.0, 9.0, 0.05)
    assert (joined.preemptions, joined.connections_opened, joined.processes) == (3, 6, 2)
    assert (joined.priority, joined.peak_memory_bytes) == ("normal", 30_000 * 1024)
    assert joined.clock_stepped


def test_what_one_does_not_know_nobody_knows() -> None:
    joined = join_outcomes(
        make_plan(1), [outcome("complete", max_lag_ns=-1, cpu_wait_ns=-1, stolen_ms=-1, peak_memory_kib=-1)], []
    )
    assert (joined.max_lag_s, joined.cpu_wait_s) == (None, None)
    assert (joined.stolen_s, joined.peak_memory_bytes) == (None, None)


@pytest.mark.parametrize(
    ("endings", "joined"),
    [
        (["complete", "cancelled"], "cancelled"),
        (["timeout", "complete"], "timeout"),
        (["cancelled", "lapsed", "timeout"], "lapsed"),
    ],
)
def test_one_that_was_stopped_stops_the_whole(endings: list[str], joined: str) -> None:
    assert join_outcomes(make_plan(1), [outcome(ended) for ended in endings], []).ended == joined
