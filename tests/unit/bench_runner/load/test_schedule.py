"""Which request may be sent when: every one once, in order, never early, never more than the slots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench_runner.load.schedule import Schedule

START_NS = 1_000_000


def opened(offsets_ns: list[int] | None, slots: int | None, count: int | None = None, ahead_ns: int = 0) -> Schedule:
    schedule = Schedule(len(offsets_ns or []) if count is None else count, offsets_ns, slots, ahead_ns)
    schedule.open(START_NS)
    return schedule


def test_nothing_is_due_before_the_window_but_its_connections_are_wanted() -> None:
    schedule = Schedule(3, [0, 0, 900], None, ahead_ns=500)
    schedule.mark(10)
    assert not schedule.sendable
    assert schedule.wanted_connections == 2
    assert schedule.next_ns is None


def test_a_closed_loop_wants_a_connection_for_each_slot() -> None:
    assert Schedule(100, None, 7, ahead_ns=0).wanted_connections == 7
    assert Schedule(3, None, 7, ahead_ns=0).wanted_connections == 3


def test_connections_are_wanted_ahead_of_their_requests() -> None:
    schedule = opened([0, 1000], None, ahead_ns=300)
    schedule.mark(START_NS)
    assert schedule.wanted_connections == 1
    assert schedule.next_ns == START_NS + 700
    schedule.mark(START_NS + 700)
    assert schedule.wanted_connections == 2
    assert schedule.next_ns == START_NS + 1000


def test_a_closed_loop_request_is_due_when_its_slot_became_free() -> None:
    schedule = opened(None, 1, count=2)
    assert schedule.next_ns == START_NS
    schedule.mark(START_NS)
    assert schedule.take() == (0, START_NS)
    sendable = [schedule.sendable]
    schedule.release(START_NS + 50)
    schedule.mark(START_NS + 80)
    sendable.append(schedule.sendable)
    assert sendable == [False, True]
    assert schedule.take() == (1, START_NS + 50)
    assert schedule.next_ns is None


def test_a_capped_request_keeps_the_moment_it_was_due() -> None:
    schedule = opened([0, 10], 1)
    schedule.mark(START_NS + 10)
    assert schedule.take() == (0, START_NS)
    assert not schedule.sendable
    schedule.release(START_NS + 500)
    assert schedule.take() == (1, START_NS + 10)


@given(
    gaps=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    slots=st.none() | st.integers(1, 5),
    ahead_ns=st.integers(0, 100),
    closed=st.booleans(),
    service=st.integers(1, 60),
)
def test_any_schedule_hands_out_all_in_order(
    gaps: list[int], slots: int | None, ahead_ns: int, closed: bool, service: int
) -> None:
    offsets = [sum(gaps[:k]) for k in range(len(gaps))]
    schedule = opened(None if closed else offsets, 3 if closed and slots is None else slots, len(gaps), ahead_ns)
    ends: list[int] = []
    taken: list[int] = []
    now = START_NS
    for _ in range(5000):
        while ends and ends[0] <= now:
            schedule.release(ends.pop(0))
        schedule.mark(now)
        while schedule.sendable:
            assert schedule.wanted_connections >= 1
            position, scheduled_ns = schedule.take()
            assert scheduled_ns <= now
            if not closed:
                assert scheduled_ns == START_NS + offsets[position]
            taken.append(position)
            ends.append(now + service)
        assert schedule.in_flight <= schedule.most_connections
        moments = [m for m in (schedule.next_ns, ends[0] if ends else None) if m is not None]
        if not moments:
            break
        assert min(moments) > now
        now = min(moments)
    assert taken == list(range(len(gaps)))
