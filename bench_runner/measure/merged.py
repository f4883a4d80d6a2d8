"""Token events that were read too late: others of their stream had come by then, and the stamp is the last one's. Pure.

The kernel keeps one stamp for what waits in a socket. Events that an engine writes together share it rightly: they came
together. An event in a chunk of its own may have come before, by as long as it may have waited for us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench_runner.measure.record import RequestRecord

#: A stamp that may be late by more than this share of the median gap, and by more than the least, is a wrong one.
WAIT_SHARE = 0.02
WAIT_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class LateEvents:
    """Of successful requests, how many events have a stamp that may be a later one's."""

    #: gaps between events, and those that begin or end at such an event while others of its read came later
    gaps: int
    late: int
    #: requests with events, and those whose first is such an event
    firsts: int
    late_firsts: int
    #: the longest that one of them may have waited
    longest_s: float

    @property
    def gap_share(self) -> float:
        """Of gaps that are too long for it, at most."""
        return self.late / self.gaps if self.gaps else 0.0

    @property
    def first_share(self) -> float:
        """Of times to the first event that are too long for it."""
        return self.late_firsts / self.firsts if self.firsts else 0.0


def late_events(good: Sequence[RequestRecord], *, kept_off: bool = False) -> LateEvents:
    """What shared stamps do to the figures of these requests.

    Args:
        good: successes.
        kept_off: other processes had the load process's CPU so often that its own word on how long it let bytes wait
            does not hold.
    """
    lives = [record for record in good if record.event_ns]
    merged = [record for record in lives if record.merged_events]
    if merged and not kept_off:
        limit_s = max(WAIT_LEAST_S, WAIT_SHARE * _typical_gap_s(lives))
        merged = [record for record in merged if record.client_wait_s > limit_s]
    return LateEvents(
        gaps=sum(len(record.event_ns) - 1 for record in lives),
        late=sum(record.merged_events for record in merged),
        firsts=len(lives),
        late_firsts=sum(record.event_ns[0] == record.event_ns[1] for record in merged),
        longest_s=max((record.client_wait_s for record in merged), default=0.0),
    )


def _typical_gap_s(lives: Sequence[RequestRecord]) -> float:
    """The median request's mean gap."""
    means = [
        (record.event_ns[-1] - record.event_ns[0]) / 1e9 / (len(record.event_ns) - 1)
        for record in lives
        if len(record.event_ns) > 1
    ]
    return median(means) if means else 0.0
