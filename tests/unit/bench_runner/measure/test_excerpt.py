"""The part of a run that is replayed: a busy span of it, with the sends and tokens that were in it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench_runner.measure.excerpt import Excerpt, cut_excerpt
from bench_runner.measure.record import RequestRecord
from engines.contract import FailureKind
from tests.fakes.records import START_NS, make_record

MS = 1_000_000


def cut(records: list[RequestRecord], span_ms: int, most: int = 10_000) -> Excerpt:
    found = cut_excerpt(records, span_ns=span_ms * MS, most_events=most)
    assert found is not None
    return found


def test_a_burst_is_replayed_from_its_first_send() -> None:
    burst = [make_record(k, sent_ms=k, events_ms=tuple(100 + 20 * t for t in range(128))) for k in range(3)]
    excerpt = cut(burst, 2000)
    assert [request.send_offset_ns for request in excerpt.requests] == [0, MS, 2 * MS]
    assert excerpt.requests[0].event_offsets_ns[:2] == (100 * MS, 120 * MS)
    assert excerpt.requests[2].event_offsets_ns[0] == 98 * MS
    assert excerpt.span_ns == 2000 * MS


def test_a_long_silence_at_the_start_is_left_out() -> None:
    late = [make_record(0, events_ms=tuple(10_000 + 20 * t for t in range(128)))]
    excerpt = cut(late, 1000)
    # under way when the span begins, so sent at its start: its tokens keep their distances
    assert excerpt.requests[0].send_offset_ns == 0
    assert excerpt.events >= 40
    offsets = excerpt.requests[0].event_offsets_ns
    assert {b - a for a, b in pairwise(offsets)} == {20 * MS}


def test_a_send_that_was_late_is_replayed_at_its_planned_moment() -> None:
    planned = [make_record(0), make_record(1, sent_ms=50, scheduled_ns=START_NS + 30 * MS, events_ms=(90, 95))]
    assert cut(planned, 1000).requests[1].send_offset_ns == 30 * MS
    assert cut(planned, 1000).requests[1].event_offsets_ns == (40 * MS, 45 * MS)


def test_what_brought_nothing_is_not_replayed() -> None:
    nothing = [make_record(0, sent_ms=None, events_ms=()), make_record(1, events_ms=(), failure=FailureKind.REJECTED)]
    assert cut_excerpt(nothing, span_ns=MS, most_events=10) is None
    assert len(cut([*nothing, make_record(2)], 1000).requests) == 1


@given(
    lives=st.lists(
        st.tuples(st.integers(0, 5_000), st.lists(st.integers(1, 5_000), min_size=1, max_size=40)),
        min_size=1,
        max_size=30,
    ),
    span_ms=st.integers(1, 3_000),
    most=st.integers(40, 200),
)
def test_it_keeps_to_its_bounds_and_invents_nothing(
    lives: list[tuple[int, list[int]]], span_ms: int, most: int
) -> None:
    records = [
        make_record(k, sent_ms=sent, events_ms=tuple(sent + after for after in sorted(afters)))
        for k, (sent, afters) in enumerate(lives)
    ]
    excerpt = cut(records, span_ms, most)
    assert excerpt.span_ns <= span_ms * MS
    assert 1 <= excerpt.events <= sum(len(afters) for _, afters in lives)
    sends = [request.send_offset_ns for request in excerpt.requests]
    assert sends == sorted(sends)
    for request in excerpt.requests:
        assert list(request.event_offsets_ns) == sorted(request.event_offsets_ns)
        assert request.event_offsets_ns[0] >= 0
        assert request.send_offset_ns + request.event_offsets_ns[-1] < span_ms * MS


def test_it_is_shortened_to_what_may_be_replayed() -> None:
    many = [make_record(k, events_ms=tuple(100 + t for t in range(900))) for k in range(20)]
    excerpt = cut(many, 1000, most=2_000)
    assert 500 <= excerpt.events <= 2_000
    assert len(excerpt.requests) == 20
