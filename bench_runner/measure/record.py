"""One request's life in stamps, its counts, its Failure if any."""

from __future__ import annotations

from dataclasses import dataclass

from engines.contract import Failure


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What one request did. All `*_ns` are on the run's monotonic clock; `None`: it never happened.

    `event_ns` and `event_tokens` run side by side, one entry for each event that carried generated text or a token.
    """

    index: int
    #: which load process sent it
    process: int
    local_port: int
    scheduled_ns: int
    sent_ns: int | None
    #: "kernel" or "user": what `sent_ns` was read from
    sent_clock: str
    #: "kernel", "user" or "mixed": what `event_ns` was read from; "" with no events
    event_clock: str
    event_ns: tuple[int, ...]
    #: tokens in each event, -1 unknown
    event_tokens: tuple[int, ...]
    #: events that share a read, and so a stamp, with an earlier one
    shared_events: int
    #: end of the response
    closed_ns: int | None
    connect_s: float | None
    #: user stamp - kernel stamp at worst, over this request's reads; `None` without kernel stamps
    client_lag_s: float | None
    resends: int
    #: three counts, never merged: planned, said by the engine, counted by a local tokenizer
    planned_input_tokens: int
    engine_input_tokens: int | None
    local_input_tokens: int | None
    planned_output_tokens: int
    engine_output_tokens: int | None
    local_output_tokens: int | None
    #: "usage", "details" or "headers"
    count_source: str | None
    cached_tokens: int | None
    input_characters: int | None
    output_characters: int
    finish_reason: str | None
    status: int | None
    failure: Failure | None

    @property
    def ok(self) -> bool:
        """A success: every condition of DESIGN's rule of failures held."""
        return self.failure is None

    @property
    def output_tokens(self) -> int | None:
        """The engine's count; `None` where it gave none."""
        return self.engine_output_tokens

    @property
    def ttft_s(self) -> float | None:
        """Sent to the first token event."""
        if self.sent_ns is None or not self.event_ns:
            return None
        return (self.event_ns[0] - self.sent_ns) / 1e9

    @property
    def e2e_s(self) -> float | None:
        """Sent to the last token event."""
        if self.sent_ns is None or not self.event_ns:
            return None
        return (self.event_ns[-1] - self.sent_ns) / 1e9

    @property
    def tpot_s(self) -> float | None:
        """(Last token - first token) ÷ (output tokens - 1); `None` below two tokens or without a count."""
        tokens = self.output_tokens
        if tokens is None or tokens < 2 or len(self.event_ns) < 2:
            return None
        return (self.event_ns[-1] - self.event_ns[0]) / 1e9 / (tokens - 1)

    @property
    def closed_s(self) -> float | None:
        """Sent to the end of the response."""
        if self.sent_ns is None or self.closed_ns is None:
            return None
        return (self.closed_ns - self.sent_ns) / 1e9

    @property
    def send_lag_s(self) -> float | None:
        """Sent - scheduled."""
        return None if self.sent_ns is None else (self.sent_ns - self.scheduled_ns) / 1e9
