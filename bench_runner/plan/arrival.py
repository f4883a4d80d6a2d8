"""When each request is sent. Pure: an arrival process and a number of requests in, send offsets out.

An open loop has one schedule, drawn from one stream, however many processes send it: they share it out among them, so
that none repeats the gaps of another.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import assert_never

from bench_runner.errors import SpecError
from bench_runner.plan.seeds import open_stream
from bench_runner.plan.spec import ArrivalSpec, Burst, ClosedLoop, Constant, Gamma, Poisson, Ramp, Trace


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the requests of one batch are sent."""

    #: of each request from the window's start, ns, signed 64-bit, never falling; `None`: a closed loop, which sends as
    #: answers come
    offsets_ns: array[int] | None
    #: most in flight; `None`: no cap
    concurrency: int | None
    #: closed loop: from the end of request k's response to the next send of its slot, ns; `None`: at once
    think_ns: array[int] | None = None
    #: offset after which a closed loop sends nothing new, ns; `None`: it sends every request
    send_until_ns: int | None = None
    #: length of the sending as planned, ns: the duration where that ended it, else up to the moment the next request
    #: would be due (even gaps) or the last one is (drawn or recorded gaps); `None`: a closed loop
    span_ns: int | None = None


def schedule(
    arrival: ArrivalSpec,
    requests: int,
    *,
    seed: int,
    repeat: int,
    attempt: int,
    duration_s: float | None = None,
    trace_s: Sequence[float] = (),
) -> Schedule:
    """Send offsets, think times and the cap on requests in flight; the same for the same arguments.

    Args:
        arrival: the process; one class of `spec` and one `case` here for each.
        requests: how many are sent at most.
        seed: of the run.
        repeat: of its cell.
        attempt: of the run.
        duration_s: an open loop has only the offsets before it, so fewer than `requests` where it ends first.
        trace_s: offsets of a trace's rows; used by that arrival alone.

    Raises:
        SpecError: no request falls within the duration.
    """
    gaps = open_stream("arrivals", seed, repeat, attempt)
    moments: Iterator[float]
    match arrival:
        case Burst():
            return Schedule(array("q", bytes(8 * requests)), None, span_ns=0)
        case ClosedLoop(concurrency=concurrency):
            thoughts = _think_ns(arrival, requests, open_stream("think-times", seed, repeat, attempt))
            return Schedule(None, concurrency, thoughts, None if duration_s is None else _ns(duration_s))
        case Constant(rate_per_s=rate):
            moments, even = (k / rate for k in count()), True
        case Poisson(rate_per_s=rate):
            moments, even = _running(gaps.expovariate(rate) for _ in count()), False
        case Gamma(rate_per_s=rate, burstiness=shape):
            moments, even = _running(gaps.gammavariate(shape, 1 / (shape * rate)) for _ in count()), False
        case Ramp(spacing=spacing, segments=segments):
            even = spacing == "even"
            moments = _at_rates(count() if even else _running(gaps.expovariate(1) for _ in count()), segments)
        case Trace():
            moments, even = iter(trace_s), False
        case _ as unknown:
            assert_never(unknown)
    offsets, span_ns = _cut(moments, requests, duration_s, even=even)
    if not offsets:
        when = f"within {duration_s:g} s" if duration_s is not None else "at all"
        raise SpecError(f"no request is due {when}; raise the rate or the duration", field="workload.duration_s")
    return Schedule(offsets, arrival.max_concurrency, span_ns=span_ns)


def measured_window(
    planned: Schedule, window: tuple[int, int], *, ramp_up_s: float | None, unsent: int, complete: bool = True
) -> tuple[int, int] | None:
    """From the end of the ramp-up to the planned end of sending, ns on the window's clock.

    Args:
        planned: when requests were to be sent.
        window: start and end of the whole window, the drain included.
        ramp_up_s: first part that is not measured.
        unsent: requests that a closed loop's duration left over.
        complete: nothing cut the window short. Then it may still end before the sending was planned to: nothing more
            was due, and everything answered.

    Returns:
        The measured part. Its end may be early, where the last send says more than the plan. `None`: all is measured:
        a burst, and a closed loop without ramp-up. It is empty where a window cut short ended within the ramp-up.
    """
    if planned.span_ns == 0 or (planned.span_ns is None and ramp_up_s is None):
        return None
    # A closed loop that ran out of requests before its time ended with its last one, wherever that was.
    by_duration_ns = planned.send_until_ns if unsent else None
    start, end = window
    sending_end = start + (planned.span_ns or by_duration_ns or 0)
    begin = start + _ns(ramp_up_s or 0)
    return begin, max(begin, sending_end if complete else min(sending_end, end))


def window_notes(planned: Schedule, window: tuple[int, int], *, duration_s: float | None, unsent: int) -> list[str]:
    """What the reader of a result must know of a window that is not what was asked for; arguments as above."""
    notes = []
    shorter = planned.span_ns is not None and planned.span_ns < _ns(duration_s or 0)
    if shorter or (planned.send_until_ns is not None and not unsent):
        notes.append(f"every request was sent before the {duration_s:g} s were over: allow more of them")
    drain_ns = window[1] - window[0] - (planned.span_ns or 0)
    if planned.span_ns and drain_ns > planned.span_ns:
        notes.append(
            f"answers came for {drain_ns / 1e9:.1f} s after {planned.span_ns / 1e9:.1f} s of sending: "
            "rates of so short a window say little of the engine; send for longer"
        )
    return notes


def _cut(moments: Iterator[float], requests: int, duration_s: float | None, *, even: bool) -> tuple[array[int], int]:
    """The first `requests` moments, those before the duration alone, and the length of the sending; ns."""
    offsets = array("q")
    end_s = math.inf if duration_s is None else duration_s
    for moment_s in moments:
        if moment_s >= end_s:
            return offsets, _ns(end_s)
        if len(offsets) == requests:
            # Even gaps end where the next one would; drawn ones end with their last request.
            return offsets, _ns(moment_s) if even else offsets[-1]
        offsets.append(_ns(moment_s))
    # What has no further moments at all: a trace, or a ramp that fell to nothing.
    return offsets, offsets[-1] if offsets else 0


def _running(gaps: Iterable[float]) -> Iterator[float]:
    whole = 0.0
    for gap in gaps:
        whole += gap
        yield whole


def _at_rates(counts: Iterable[float], segments: Sequence[tuple[float, float, float]]) -> Iterator[float]:
    """When the expected number of requests reaches each of `counts`, which never fall.

    Moments of a unit-rate process carried over by the inverse of the integrated rate (Çınlar, 1975): what is Poisson
    there is Poisson at the rate of the moment here. After the last segment its end rate holds; ends where that is 0.
    """
    parts = iter(segments)
    low, high, length_s = next(parts)
    begin_s = done = 0.0
    for wanted in counts:
        while wanted > done + (low + high) / 2 * length_s or max(low, high) == 0:
            begin_s, done = begin_s + length_s, done + (low + high) / 2 * length_s
            part = next(parts, None)
            if part is None:
                if segments[-1][1] == 0:
                    return
                part = (segments[-1][1], segments[-1][1], math.inf)
            low, high, length_s = part
        left = wanted - done
        slope = (high - low) / length_s
        root = math.sqrt(max(low * low + 2 * slope * left, 0.0))
        yield begin_s + (2 * left / (low + root) if left > 0 else 0.0)


def _think_ns(arrival: ClosedLoop, requests: int, draws: random.Random) -> array[int] | None:
    mean_s = arrival.think_time_s
    if mean_s is None:
        return None
    if arrival.think_time == "fixed":
        return array("q", [_ns(mean_s)]) * requests
    return array("q", (_ns(draws.expovariate(1 / mean_s)) for _ in range(requests)))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
