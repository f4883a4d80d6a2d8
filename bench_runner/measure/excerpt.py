"""The part of a run that its calibration replays: the same sends and tokens, from one busy span of it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from bench_runner.measure.record import RequestRecord

#: The earliest span is taken that has this share of the tokens of the busiest: it holds the first sends where it can.
BUSY_ENOUGH = 0.9
#: parts of a span by whose tokens it is chosen
_PARTS = 8
#: how often a span is shortened to what may be replayed
_MOST_CUTS = 8


@dataclass(frozen=True, slots=True)
class ExcerptRequest:
    """One request of the span."""

    #: from the span's start to the planned moment of its send; 0 where it was under way by then
    send_offset_ns: int
    #: from its send, or the span's start where it was under way by then, to each token event of the span
    event_offsets_ns: tuple[int, ...]
    #: of its prompt, about
    prompt_bytes: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Requests that had token events in the span, in the order of their sends."""

    span_ns: int
    requests: tuple[ExcerptRequest, ...]

    @property
    def events(self) -> int:
        """Token events to be replayed."""
        return sum(len(request.event_offsets_ns) for request in self.requests)


def cut_excerpt(records: Sequence[RequestRecord], *, span_ns: int, most_events: int) -> Excerpt | None:
    """A busy span of the run, as long as `span_ns` or as `most_events` allow; `None` where no token ever came."""
    lives = [record for record in records if record.sent_ns is not None and record.event_ns]
    if not lives:
        return None
    for _ in range(_MOST_CUTS):
        start_ns = _busy_start_ns(lives, span_ns)
        requests = [cut for record in lives if (cut := _cut(record, start_ns, start_ns + span_ns)) is not None]
        excerpt = Excerpt(span_ns, tuple(sorted(requests, key=lambda request: request.send_offset_ns)))
        if excerpt.events <= most_events:
            break
        span_ns = max(1, span_ns * most_events // excerpt.events * 9 // 10)
    return excerpt


def _busy_start_ns(lives: Sequence[RequestRecord], span_ns: int) -> int:
    """The earliest start, in parts of a span, of a span with nearly as many token events as the busiest has."""
    first_ns = min(record.sent_ns or 0 for record in lives)
    part_ns = max(1, span_ns // _PARTS)
    last_ns = max(record.event_ns[-1] for record in lives)
    counts = [0] * ((last_ns - first_ns) // part_ns + 1)
    for record in lives:
        for event_ns in record.event_ns:
            counts[(event_ns - first_ns) // part_ns] += 1
    sums = [0, *accumulate(counts)]
    in_span = [sums[min(k + _PARTS, len(counts))] - sums[k] for k in range(len(counts))]
    enough = BUSY_ENOUGH * max(in_span)
    return first_ns + part_ns * next(k for k, events in enumerate(in_span) if events >= enough)


def _cut(record: RequestRecord, start_ns: int, end_ns: int) -> ExcerptRequest | None:
    """A request's part of the span; `None` where no token event of it is in there."""
    assert record.sent_ns is not None
    events = record.event_ns[bisect_left(record.event_ns, start_ns) : bisect_left(record.event_ns, end_ns)]
    if not events:
        return None
    base_ns = max(record.sent_ns, start_ns)
    return ExcerptRequest(
        max(0, record.scheduled_ns - start_ns),
        tuple(max(0, event_ns - base_ns) for event_ns in events),
        record.input_characters or 4 * record.planned_input_tokens,
    )
