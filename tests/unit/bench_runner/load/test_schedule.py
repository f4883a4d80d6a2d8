"""Which request may be sent when: every one once, in order, never early, never more than the slots."""

from __future__ import annotations

from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from bench_runner.load.channel import NEVER_NS
from bench_runner.load.positions import OwnPositions
from bench_runner.load.schedule import Schedule, SlotSchedule, TimedSchedule

START_NS = 1_000_000


def timed(offsets_ns: list[int], ahead_ns: int = 0, until_ns: int = NEVER_NS) -> TimedSchedule:
    schedule = TimedSchedule(offsets_ns, ahead_ns, until_ns)
    schedule.open(START_NS)
    return schedule


def looped(count: int, slots: int, think_ns: list[int] | None = None, until_ns: int = NEVER_NS) -> SlotSchedule:
    schedule = SlotSchedule(OwnPositions(count), slots, 0, think_ns=think_ns, until_ns=until_ns)
    schedule.open(START_NS)
    return schedule


def capped(offsets_ns: list[int], slots: int, ahead_ns: int = 0, until_ns: int = NEVER_NS) -> SlotSchedule:
    positions = OwnPositions(len(offsets_ns))
    schedule = SlotSchedule(positions, slots, ahead_ns, offsets_ns=offsets_ns, until_ns=until_ns)
    schedule.open(START_NS)
    return schedule


def sends(schedule: Schedule, service_ns: int) -> list[tuple[int, int, int]]:
    """Position, moment due and moment sent of all requests, each answered after `service_ns`, from the start on."""
    ends: list[tuple[int, int]] = []
    sent: list[tuple[int, int, int]] = []
    now = START_NS
    while not schedule.over:
        while ends and ends[0][0] <= now:
            schedule.release(heappop(ends)[1], now)
        schedule.mark(now)
        while schedule.sendable:
            assert schedule.wanted_connections >= 1
            position, due_ns = schedule.take()
            sent.append((position, due_ns - START_NS, now - START_NS))
            heappush(ends, (now + service_ns, position))
        assert schedule.in_flight == len(ends)
        moments = [m for m in (schedule.next_ns, ends[0][0] if ends else None) if m is not None]
        if moments:
            assert min(moments) > now
            now = min(moments)
    return sent


def test_nothing_is_due_before_the_window_but_its_connections_are_wanted() -> None:
    for schedule in (
        TimedSchedule([0, 0, 900], 500),
        SlotSchedule(OwnPositions(3), 3, 500, offsets_ns=[0, 0, 900]),
        SlotSchedule(OwnPositions(3), 2, 500),
    ):
        schedule.mark(10)
        assert not schedule.sendable
        assert schedule.wanted_connections == 2
        assert schedule.next_ns is None
        assert not schedule.over


def test_a_closed_loop_wants_a_connection_for_each_slot() -> None:
    assert looped(100, 7).wanted_connections == 7
    assert looped(3, 7).wanted_connections == 3


def test_connections_are_wanted_ahead_of_their_requests() -> None:
    for schedule in (timed([0, 1000], ahead_ns=300), capped([0, 1000], 2, ahead_ns=300)):
        schedule.mark(START_NS)
        assert schedule.wanted_connections == 1
        assert schedule.next_ns == START_NS + 700
        schedule.mark(START_NS + 700)
        assert schedule.wanted_connections == 2
        assert schedule.next_ns == START_NS + 1000


def test_a_closed_loop_request_is_due_when_its_slot_became_free() -> None:
    schedule = looped(2, 1)
    assert schedule.next_ns == START_NS
    schedule.mark(START_NS)
    assert schedule.take() == (0, START_NS)
    sendable = [schedule.sendable]
    schedule.release(0, START_NS + 50)
    schedule.mark(START_NS + 80)
    sendable.append(schedule.sendable)
    assert sendable == [False, True]
    assert schedule.take() == (1, START_NS + 50)
    assert schedule.next_ns is None


def test_a_capped_request_keeps_the_moment_it_was_due() -> None:
    schedule = capped([0, 10], 1)
    schedule.mark(START_NS + 10)
    assert schedule.take() == (0, START_NS)
    assert not schedule.sendable
    schedule.release(0, START_NS + 500)
    schedule.mark(START_NS + 500)
    assert schedule.take() == (1, START_NS + 10)


def test_a_slot_thinks_behind_each_response() -> None:
    assert sends(looped(3, 1, think_ns=[100, 30, 9_999]), service_ns=5) == [(0, 0, 0), (1, 105, 105), (2, 140, 140)]


def test_slots_think_side_by_side() -> None:
    # The slot of request 1 thinks longest, so the other takes both further requests.
    sent = sends(looped(4, 2, think_ns=[10, 1000, 10, 10]), service_ns=5)
    assert sent == [(0, 0, 0), (1, 0, 0), (2, 15, 15), (3, 30, 30)]


def test_nothing_is_sent_behind_the_end_of_sending() -> None:
    assert [position for position, _, _ in sends(timed([0, 10, 10, 11], until_ns=10), service_ns=50)] == [0, 1, 2]
    assert [sent for _, _, sent in sends(looped(9, 1, until_ns=10), service_ns=4)] == [0, 4, 8]
    assert [sent for _, _, sent in sends(capped([0, 1, 2, 3], 1, until_ns=10), service_ns=6)] == [0, 6]
    assert sends(timed([5], until_ns=4), service_ns=1) == []


@given(
    gaps=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    slots=st.none() | st.integers(1, 5),
    ahead_ns=st.integers(0, 100),
    closed=st.booleans(),
    service_ns=st.integers(1, 60),
    until_ns=st.just(NEVER_NS) | st.integers(0, 1500),
)
def test_any_schedule_hands_out_all_in_order(
    gaps: list[int], slots: int | None, ahead_ns: int, closed: bool, service_ns: int, until_ns: int
) -> None:
    offsets = [sum(gaps[:k]) for k in range(len(gaps))]
    schedule: Schedule
    if closed:
        schedule = SlotSchedule(OwnPositions(len(gaps)), slots or 3, ahead_ns, until_ns=until_ns)
    elif slots:
        schedule = SlotSchedule(OwnPositions(len(gaps)), slots, ahead_ns, offsets_ns=offsets, until_ns=until_ns)
    else:
        schedule = TimedSchedule(offsets, ahead_ns, until_ns)
    schedule.open(START_NS)
    sent = sends(schedule, service_ns)
    assert [position for position, _, _ in sent] == list(range(len(sent)))
    assert all(due_ns <= sent_ns <= until_ns for _, due_ns, sent_ns in sent)
    if not closed:
        assert [due_ns for _, due_ns, _ in sent] == offsets[: len(sent)]
    if until_ns == NEVER_NS:
        assert len(sent) == len(gaps)
    if slots is None and not closed:
        assert all(due_ns == sent_ns for _, due_ns, sent_ns in sent)
        assert len(sent) == sum(offset <= until_ns for offset in offsets)
    moments = sorted([(sent_ns, 1) for *_, sent_ns in sent] + [(sent_ns + service_ns, -1) for *_, sent_ns in sent])
    level = most = 0
    for _, step in moments:
        level += step
        most = max(most, level)
    assert most <= (slots or (3 if closed else len(gaps)))


@given(
    offsets=st.lists(st.integers(0, 500), min_size=1, max_size=40).map(sorted),
    processes=st.integers(1, 5),
    until_ns=st.just(NEVER_NS) | st.integers(0, 500),
)
def test_dealt_schedules_are_together_the_whole(offsets: list[int], processes: int, until_ns: int) -> None:
    whole = sends(timed(offsets, until_ns=until_ns), service_ns=10)
    dealt: list[tuple[int, int, int]] = []
    for rank in range(processes):
        schedule = TimedSchedule(offsets, 0, until_ns, rank, processes)
        schedule.open(START_NS)
        mine = sends(schedule, service_ns=10)
        assert all(position % processes == rank for position, _, _ in mine)
        dealt += mine
    assert sorted(dealt) == whole
