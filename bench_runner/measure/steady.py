"""The sustained rate: output tokens in the span where every slot is decoding, neither filling nor draining. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench_runner.measure.record import RequestRecord

#: A steady window below this share of the run says more about its edges than about its rate.
LEAST_SHARE = 0.1


def steady_window_ns(records: Sequence[RequestRecord], concurrency: int | None) -> tuple[int, int] | None:
    """When every slot is decoding: (start, end), ns; `None` where there is no such span.

    It opens when each of the first wave (as many requests as slots; all of them in a burst) has given its first token,
    and closes at the first last token once nothing is left to send, when a slot falls empty for good.
    """
    sent = sorted((r for r in records if r.sent_ns is not None and r.event_ns), key=lambda r: (r.sent_ns, r.index))
    if not sent:
        return None
    start = max(record.event_ns[0] for record in sent[:concurrency])
    last_send = max(record.sent_ns for record in sent if record.sent_ns is not None)
    ends = [record.event_ns[-1] for record in sent if record.event_ns[-1] >= last_send]
    end = min(ends)  # never empty: the last one sent ended after it was sent
    return (start, end) if start < end else None


def sustained_tokens_per_s(
    records: Sequence[RequestRecord], concurrency: int | None, duration_s: float | None
) -> float | None:
    """Output tokens of successes in the steady window ÷ its length; `None` where it is too short, or not counted."""
    window = steady_window_ns(records, concurrency)
    if window is None or not duration_s:
        return None
    length_s = (window[1] - window[0]) / 1e9
    if length_s < LEAST_SHARE * duration_s:
        return None
    tokens = [_tokens_between(record, *window) for record in records if record.ok]
    if any(count is None for count in tokens):
        return None
    return sum(count for count in tokens if count is not None) / length_s


def _tokens_between(record: RequestRecord, start_ns: int, end_ns: int) -> float | None:
    """Tokens that came after `start_ns`, up to and with `end_ns`."""
    inside = [start_ns < stamp <= end_ns for stamp in record.event_ns]
    if -1 not in record.event_tokens:
        return sum(tokens for tokens, counts in zip(record.event_tokens, inside, strict=True) if counts)
    counted = record.output_tokens if record.output_tokens is not None else record.local_output_tokens
    return None if counted is None else counted * sum(inside) / len(inside)
