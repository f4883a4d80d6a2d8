"""Validity's checks on time: was the run long enough, and did it stay the same while it was measured? Pure.

A burst is one sample that only rises and falls, so all but its length is left alone; ramps and traces are planned to
change.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median, variance

from bench_runner.measure.evidence import Evidence
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import Reason
from bench_runner.measure.stats import percentile
from bench_runner.measure.steady import steady_window_ns

#: A burst this short is measured to a percent at best: sends and stamps are good to some 0.2 ms.
SHORTEST_BURST_S = 0.02
#: A window shorter than so many of its own requests fills and drains, and is never steady.
LEAST_SPANS = 2
#: Little's law is asked, and a closed loop's halves are compared, only in a window of so many: edges weigh a tenth.
STEADY_SPANS = 10
#: Each half is cut in so many blocks of time, whose means are nearly independent where single requests are not.
BLOCKS = 5
#: Halves differ where their means are apart by this share …
HALVES_LIMIT = 0.10
#: … and by so many standard errors: four in a thousand of steady runs have that, and few of them the first. A latency
#: that only ever grows has five, for it grows within the halves as well.
HALVES_ERRORS = 4.0
#: Planned lengths of the halves that are further apart explain a difference.
SAME_PLAN = 0.05
#: Share by which requests under way may differ from rate × latency, or from the engine's own gauges.
LITTLE_LIMIT = 0.20
#: Gauges read so seldom prove nothing.
LEAST_GAUGES = 5

_CHANGING = ("ramp", "trace")


def check_length(evidence: Evidence) -> list[Reason]:
    """Too short to say what it is asked."""
    times = [took for r in evidence.good if (took := r.e2e_s) is not None]
    if not times:
        return []
    slots = evidence.concurrency
    if _is_burst(evidence):
        took_s = max(times)
        if took_s >= SHORTEST_BURST_S:
            return []
        text = f"the longest request took {took_s * 1e3:.1f} ms: stamps are good to a percent of it at best"
        return [Reason("too_short", "note", text)]
    if slots == 1:
        return []
    window = _span(evidence)
    length_s = 0.0 if window is None else (window[1] - window[0]) / 1e9
    middle_s = median(times)
    waves = len(evidence.records) / slots if slots is not None else LEAST_SPANS
    if length_s >= LEAST_SPANS * middle_s and waves >= LEAST_SPANS:
        return []
    if waves < LEAST_SPANS:
        message = (
            f"{len(evidence.records)} requests fill {slots} slots {waves:.1f} times: they fill and drain, never "
            f"steady; send {LEAST_SPANS} times as many as there are slots, or more"
        )
        return [Reason("too_short", "inconclusive", message)]
    message = (
        f"the window of {length_s:.2f} s is shorter than {LEAST_SPANS} of its requests ({middle_s:.2f} s each, "
        "median): it fills and drains, and is never steady; send more requests, or for longer"
    )
    return [Reason("too_short", "inconclusive", message)]


def check_stationary(evidence: Evidence) -> list[Reason]:
    """The requests sent in the first half of the steady window against those of the second, by their latency."""
    # In an open loop nothing is sent because another was answered, so backlogs show without a long window.
    window = _steady(evidence, STEADY_SPANS if evidence.arrival_kind == "closed_loop" else LEAST_SPANS - 1)
    if window is None:
        return []
    start, end = window
    edges = [start + (end - start) * k // (2 * BLOCKS) for k in range(2 * BLOCKS + 1)]
    blocks = [[r for r in evidence.good if r.sent_ns is not None and a <= r.sent_ns < b] for a, b in pairwise(edges)]
    if not all(blocks):
        return []
    halves = blocks[:BLOCKS], blocks[BLOCKS:]
    plans = [[(r.planned_input_tokens, r.planned_output_tokens) for block in half for r in block] for half in halves]
    means = [[fmean(column) for column in zip(*plan, strict=True)] for plan in plans]
    if any(abs(b - a) > SAME_PLAN * max(a, b) for a, b in zip(*means, strict=True)):
        return []
    first, second = ([fmean(r.e2e_s or 0.0 for r in block) for block in half] for half in halves)
    before_s, after_s = fmean(first), fmean(second)
    apart_s = abs(after_s - before_s)
    error_s = ((variance(first) + variance(second)) / BLOCKS) ** 0.5
    if apart_s <= HALVES_LIMIT * before_s or apart_s <= HALVES_ERRORS * error_s:
        return []
    message = (
        f"requests took {before_s:.3f} s in the first half of the steady window and {after_s:.3f} s in the second: "
        f"more than {HALVES_LIMIT:.0%} and {HALVES_ERRORS:g} standard errors apart, so one figure stands for neither"
    )
    return [Reason("not_stationary", "inconclusive", message)]


def check_littles_law(evidence: Evidence) -> list[Reason]:
    """Mean under way = rate × mean latency, from the records; and the same mean by the engine's own gauges."""
    return [*_check_records(evidence), *_check_gauges(evidence)]


def _check_records(evidence: Evidence) -> list[Reason]:
    window = _steady(evidence, STEADY_SPANS)
    if window is None:
        return []
    spans = [(s, e) for r in evidence.records if (s := r.sent_ns) is not None and (e := _end(r)) is not None]
    under_way = sum(max(min(e, window[1]) - max(s, window[0]), 0) for s, e in spans) / (window[1] - window[0])
    expected = sum(e - s for s, e in spans if window[0] <= s < window[1]) / (window[1] - window[0])
    if abs(under_way - expected) <= LITTLE_LIMIT * max(under_way, expected):
        return []
    message = (
        f"{under_way:.1f} requests were under way on average, rate × latency gives {expected:.1f}; more than "
        f"{LITTLE_LIMIT:.0%} apart, so requests pile up or the window is no steady one"
    )
    return [Reason("littles_law", "inconclusive", message)]


def _check_gauges(evidence: Evidence) -> list[Reason]:
    """Requests under way by the engine's gauges and by ours, at the same moments.

    A gauge was read somewhere between asking and answer; ours is what comes nearest to it of all that were so in
    between, so that a slow scrape proves less and accuses nobody. An engine that knows of fewer says nothing against
    the figures: a gateway before it holds some, or it is one of several.
    """
    if _is_burst(evidence):
        return []
    said, ours = [], []
    in_flight = _InFlight(evidence.records)
    for asked_ns, answered_ns, value in evidence.gauges:
        low, high = in_flight.between(asked_ns, answered_ns)
        if high:
            said.append(value)
            ours.append(min(max(value, low), high))
    if len(said) < LEAST_GAUGES:
        return []
    theirs, own = fmean(said), fmean(ours)
    if abs(theirs - own) <= max(LITTLE_LIMIT * max(theirs, own), 1.0):
        return []
    message = (
        f"the engine says that {theirs:.1f} requests were running or waiting, ours were {own:.1f} (means of "
        f"{len(said)} readings; {LITTLE_LIMIT:.0%} is the limit): "
    ) + ("it serves others too" if theirs > own else "something before it holds requests back, or it is one of several")
    return [Reason("littles_law", "inconclusive" if theirs > own else "note", message)]


def _is_burst(evidence: Evidence) -> bool:
    """All at once, whatever it is called."""
    slots = evidence.concurrency
    closed = evidence.arrival_kind == "closed_loop"
    return evidence.arrival_kind == "burst" or (closed and (slots is None or slots >= len(evidence.records)))


def _span(evidence: Evidence) -> tuple[int, int] | None:
    """What is measured: the window the run has, else first to last send, or to the last token of a closed loop."""
    if evidence.measured is not None:
        return evidence.measured
    sent = [r.sent_ns for r in evidence.records if r.sent_ns is not None]
    ends = [r.event_ns[-1] for r in evidence.good if r.event_ns]
    if not sent or not ends:
        return None
    return min(sent), max(ends) if evidence.arrival_kind == "closed_loop" else max(sent)


def _steady(evidence: Evidence, least_spans: int) -> tuple[int, int] | None:
    """Where the load was the same all the time; `None` where that is shorter than so many requests (median)."""
    times = [took for r in evidence.good if (took := r.e2e_s) is not None]
    if _is_burst(evidence) or evidence.arrival_kind in _CHANGING or not times:
        return None
    middle_ns = median(times) * 1e9
    window = evidence.measured
    if evidence.arrival_kind == "closed_loop":
        window = window or steady_window_ns(evidence.records, evidence.concurrency)
        # What is sent at the end is answered by an engine with ever less to do.
        window = None if window is None else (window[0], window[1] - round(percentile(sorted(times), 0.95) * 1e9))
    elif window is None and (span := _span(evidence)) is not None:
        # An open loop without ramp-up fills for as long as a request takes.
        window = span[0] + round(middle_ns), span[1]
    return window if window is not None and window[1] - window[0] >= least_spans * middle_ns else None


def _end(record: RequestRecord) -> int | None:
    return record.closed_ns if record.closed_ns is not None else (record.event_ns[-1] if record.event_ns else None)


class _InFlight:
    """How many of the requests were under way at any moment."""

    def __init__(self, records: Sequence[RequestRecord]) -> None:
        spans = [(s, e) for r in records if (s := r.sent_ns) is not None and (e := _end(r)) is not None]
        self._starts = sorted(start for start, _ in spans)
        self._ends = sorted(end for _, end in spans)

    def between(self, first_ns: int, last_ns: int) -> tuple[int, int]:
        """The fewest and the most from one moment to another, both included."""
        begun, ended = bisect_right(self._starts, first_ns), bisect_right(self._ends, first_ns)
        starts = self._starts[begun : bisect_right(self._starts, last_ns)]
        ends = self._ends[ended : bisect_right(self._ends, last_ns)]
        low = high = now = begun - ended
        for _, change in sorted([(start, 1) for start in starts] + [(end, -1) for end in ends]):
            now += change
            low, high = min(low, now), max(high, now)
        return low, high
