"""The measured window of a run that has one: behind the ramp-up, up to the end of sending; then comes the drain. Pure.

Latencies and goodput are those of the requests *sent* in it. Rates count what *arrived* in it, whoever asked for it: an
engine that cannot keep up answers most of what was sent only in the drain, so requests sent ÷ window would be the rate
that was offered, not the one that was served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from bench_runner.measure.record import RequestRecord

Span = tuple[int, int]


def extend_to_last_send(records: Iterable[RequestRecord], planned: Span | None) -> Span | None:
    """The window as it was: sending that ran late, or whose end was not planned, ends with its last request; ns."""
    if planned is None:
        return None
    start, end = planned
    return start, max([end, *(record.sent_ns for record in records if record.sent_ns is not None)])


def sent_within(records: Sequence[RequestRecord], window: Span | None) -> list[RequestRecord]:
    """Those sent in the window, or due in it and never sent; all of them where there is no window."""
    if window is None:
        return list(records)
    start, end = window
    return [r for r in records if start <= (r.scheduled_ns if r.sent_ns is None else r.sent_ns) <= end]


@dataclass(frozen=True, slots=True)
class Arrived:
    """What successful requests brought within a window; a share of a request counts as one. `None`: not counted."""

    #: whole answers: their last token came within
    requests: int
    #: of prompts whose first token came within
    input_tokens: float | None
    output_tokens: float | None
    input_characters: float | None
    output_characters: float


Count = Callable[[RequestRecord], int | None]


def count_arrived(
    good: Sequence[RequestRecord], window: Span, *, inputs: Count | None, outputs: Count | None
) -> Arrived:
    """What the successes brought within the window.

    Args:
        good: the successes of the whole run, those of its ramp-up too.
        window: start and end, ns; a token at its start is outside, one at its end inside.
        inputs: which count of a request's input tokens holds; `None`: none does.
        outputs: the same of its output tokens.
    """
    begun = [r for r in good if r.event_ns and _inside(r.event_ns[0], window)]
    shares = [(r, _share(r, window)) for r in good]
    return Arrived(
        requests=sum(bool(r.event_ns) and _inside(r.event_ns[-1], window) for r in good),
        input_tokens=None if inputs is None else _total((inputs(r), 1.0) for r in begun),
        output_tokens=None if outputs is None else _total((outputs(r), share) for r, share in shares),
        input_characters=_total((r.input_characters, 1.0) for r in begun),
        output_characters=sum(r.output_characters * share for r, share in shares),
    )


def describe_window(
    records: Sequence[RequestRecord], sent: Sequence[RequestRecord], run_start_ns: int, window: Span
) -> dict[str, Any]:
    """The window as plain JSON types, with what was left out of it."""
    ends = [r.closed_ns for r in records if r.closed_ns is not None]
    inside = {id(record) for record in sent}
    outside = [r for r in records if id(r) not in inside]
    return {
        "ramp_up_s": (window[0] - run_start_ns) / 1e9,
        "length_s": (window[1] - window[0]) / 1e9,
        "drain_s": max(max(ends, default=window[1]) - window[1], 0) / 1e9,
        "left_out_requests": len(outside),
        "left_out_failures": sum(r.failure is not None for r in outside),
    }


def _inside(stamp: int, window: Span) -> bool:
    return window[0] < stamp <= window[1]


def _share(record: RequestRecord, window: Span) -> float:
    """Share of the output that came within; events count alike where the wire does not tell their tokens."""
    weights = (1,) * len(record.event_ns) if -1 in record.event_tokens else record.event_tokens
    whole = sum(weights)
    within = sum(compress(weights, (_inside(stamp, window) for stamp in record.event_ns)))
    return within / whole if whole else 0.0


def _total(parts: Iterable[tuple[int | None, float]]) -> float | None:
    """The sum of counts by their shares; `None` where one is missing."""
    whole = 0.0
    for count, share in parts:
        if count is None:
            return None
        whole += count * share
    return whole
