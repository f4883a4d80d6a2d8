"""One request's life in stamps, its counts, its Failure if any; and that life as one flat JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import sub
from typing import Any

from engines.contract import Capture, Completion, Failure, FailureKind


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
    #: of these those that came in a chunk of their own: they may have arrived before their stamp, by what we waited
    merged_events: int
    #: for so long, at most, what came may have waited for us until it was read together with what came later
    client_wait_s: float
    #: end of the response
    closed_ns: int | None
    #: `None` where the connection was there already, or never came to be
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

    @property
    def one_token_per_event(self) -> bool:
        """Each event carried exactly one token: the wire says so, or there are as many events as tokens counted."""
        sizes = set(self.event_tokens)
        if -1 in sizes:
            return sizes <= {-1, 1} and len(self.event_ns) == self.output_tokens
        return sizes == {1}


def record_of(
    capture: Capture,
    completion: Completion,
    *,
    planned_input_tokens: int,
    planned_output_tokens: int,
    input_characters: int | None,
    local_input_tokens: int | None = None,
    local_output_tokens: int | None = None,
) -> RequestRecord:
    """One request's record from what was kept of it and what was understood of that.

    Args:
        input_characters: of the prompt's text; `None` for token-id prompts without text.
        local_input_tokens: `None` where there is no local tokenizer.
        local_output_tokens: the same.
    """
    return RequestRecord(
        index=capture.index,
        process=capture.process,
        local_port=capture.local_port,
        scheduled_ns=capture.scheduled_ns,
        sent_ns=capture.sent_ns or None,
        sent_clock=capture.sent_clock,
        event_clock=completion.clock,
        event_ns=tuple(completion.event_ns),
        event_tokens=tuple(completion.event_tokens),
        shared_events=sum(completion.event_shared),
        merged_events=completion.merged_events,
        client_wait_s=capture.waited_ns / 1e9,
        closed_ns=(completion.closed_ns or None) if capture.read_user_ns else None,
        connect_s=capture.connect_s or None,
        client_lag_s=_client_lag_s(capture),
        resends=capture.resends,
        planned_input_tokens=planned_input_tokens,
        engine_input_tokens=completion.input_tokens,
        local_input_tokens=local_input_tokens,
        planned_output_tokens=planned_output_tokens,
        engine_output_tokens=completion.output_tokens,
        local_output_tokens=local_output_tokens,
        count_source=completion.count_source,
        cached_tokens=completion.cached_tokens,
        input_characters=input_characters,
        output_characters=len(completion.text),
        finish_reason=completion.finish_reason,
        status=completion.status,
        failure=_failure(capture, completion),
    )


def _client_lag_s(capture: Capture) -> float | None:
    user_ns, kernel_ns = capture.read_user_ns, capture.read_kernel_ns
    if len(user_ns) == len(kernel_ns) and all(kernel_ns):
        return max(map(sub, user_ns, kernel_ns)) / 1e9 if kernel_ns else None
    lags = [user - kernel for user, kernel in zip(user_ns, kernel_ns, strict=True) if kernel != 0]
    return max(lags) / 1e9 if lags else None


def _failure(capture: Capture, completion: Completion) -> Failure | None:
    """The dialect's finding, and what only the counts beside it can tell."""
    if completion.failure is not None:
        return completion.failure
    if not capture.sent_ns:
        return Failure(FailureKind.CANCELLED, capture.error or "never sent")
    ids, counted = completion.token_ids, completion.output_tokens
    if ids is not None and counted is not None and len(ids) < counted:
        message = f"{len(ids)} token ids came of the {counted} tokens the engine counted"
        return Failure(FailureKind.INCOMPLETE, message, completion.status)
    return None


#: Fields of the JSON object that hold lists, left out of tables such as CSV.
LIST_FIELDS = ("event_ns", "event_tokens")
#: What is worked out from the stamps and written beside them, for whoever reads the file.
DERIVED_FIELDS = ("ok", "ttft_s", "tpot_s", "e2e_s", "closed_s", "send_lag_s")
_OWN_FIELDS = tuple(f.name for f in fields(RequestRecord) if f.name != "failure")
#: Columns of a table of records, one value each, in order.
TABLE_FIELDS = (
    *(name for name in _OWN_FIELDS if name not in LIST_FIELDS),
    "failure_kind",
    "failure_message",
    "failure_status",
    *DERIVED_FIELDS,
)


def to_json(record: RequestRecord) -> dict[str, Any]:
    """The record as one flat JSON object: its fields, its failure spread over three keys, and what is derived."""
    flat: dict[str, Any] = {name: getattr(record, name) for name in _OWN_FIELDS}
    flat["event_ns"] = list(record.event_ns)
    flat["event_tokens"] = list(record.event_tokens)
    failure = record.failure
    flat["failure_kind"] = failure.kind.value if failure else None
    flat["failure_message"] = failure.message if failure else None
    flat["failure_status"] = failure.status if failure else None
    flat.update({name: getattr(record, name) for name in DERIVED_FIELDS})
    return flat


def from_json(flat: Mapping[str, Any]) -> RequestRecord:
    """The record that `to_json` wrote; what was derived is worked out again, not read.

    Raises:
        KeyError: a field is missing.
    """
    values = {name: flat[name] for name in _OWN_FIELDS}
    values["event_ns"] = tuple(flat["event_ns"])
    values["event_tokens"] = tuple(flat["event_tokens"])
    kind = flat["failure_kind"]
    failure = Failure(FailureKind(kind), flat["failure_message"], flat["failure_status"]) if kind is not None else None
    return RequestRecord(**values, failure=failure)
