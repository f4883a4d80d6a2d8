"""What really happened to each request: its arrival by the kernel's clock, and the moment of every token's send.

All stamps are nanoseconds of CLOCK_MONOTONIC. A token's stamp is read just before the `send` that first offered it to
the socket.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class TruthRecord:
    """One generation request."""

    index: int
    #: the client's port: joins this with the client's own record
    local_port: int
    route: str
    stream: bool
    #: arrival of the request's last byte
    arrival_ns: int
    #: "kernel", or "user" where the kernel gave no stamp
    arrival_clock: str
    prompt_tokens: int
    cached_tokens: int
    max_tokens: int
    #: tokens the model meant to say; less than `max_tokens` where it stopped by itself
    planned_tokens: int
    #: it entered the scheduler's queue, and the first step that worked on it began; `None`: not yet
    queued_ns: int | None = None
    begun_ns: int | None = None
    #: ends of the steps that gave its first and its newest token; that token's send comes after it
    first_made_ns: int | None = None
    last_made_ns: int | None = None
    #: one a generated token (of an answer that does not stream: one send for all)
    token_ns: array[int] = field(default_factory=lambda: array("q"))
    end_ns: int | None = None
    #: "running", "complete", "client_gone", "rejected", or the name of the fault that ended it
    outcome: str = "running"
    status: int = 200
    finish_reason: str | None = None
    #: sends that the socket did not take whole
    blocked_sends: int = 0
    preemptions: int = 0

    def to_json(self, *, tokens: bool) -> dict[str, Any]:
        """Plain JSON; `tokens` adds every token's stamp to the first and last."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name != "token_ns"}
        fields["generated_tokens"] = len(self.token_ns)
        fields["first_token_ns"] = self.token_ns[0] if self.token_ns else None
        fields["last_token_ns"] = self.token_ns[-1] if self.token_ns else None
        if tokens:
            fields["token_ns"] = self.token_ns.tolist()
        return fields


class TruthLog:
    """The last `keep` requests; indices go on counting."""

    def __init__(self, keep: int) -> None:
        self._records: deque[TruthRecord] = deque(maxlen=keep)
        #: index of the next record
        self.next_index = 0

    def open(self, record: TruthRecord) -> TruthRecord:
        """Take a new record in, under the next index."""
        record.index = self.next_index
        self.next_index += 1
        self._records.append(record)
        return record

    def since(self, index: int, *, tokens: bool = True) -> dict[str, Any]:
        """Records from `index` on, and how many were asked for but are forgotten."""
        kept = [r.to_json(tokens=tokens) for r in self._records if r.index >= index]
        oldest = self._records[0].index if self._records else self.next_index
        return {
            "clock": "CLOCK_MONOTONIC",
            "unit": "ns",
            "next": self.next_index,
            "forgotten": max(0, oldest - index),
            "requests": kept,
        }
