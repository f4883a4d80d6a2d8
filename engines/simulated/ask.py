"""What one generation request asks for, whichever wire it came over; and how the wires refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ask:
    """One generation, understood."""

    #: "completions", "chat" or "native"
    route: str
    stream: bool
    prompt: list[int]
    max_tokens: int
    ignore_eos: bool = False
    min_tokens: int = 0
    #: a usage chunk at the end of the stream
    usage: bool = False
    #: the running count on every chunk
    running_usage: bool = False
    #: token ids beside the text
    return_ids: bool = False
    #: TGI's `details` in an answer that does not stream
    details: bool = False
    #: TGI's root route gives a list of one answer
    listed: bool = False
    #: the answer opens with the prompt (TGI's return_full_text, OpenAI's echo)
    echo: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where one request's time went, for engines that say so in headers."""

    queue_s: float
    inference_s: float


class Refusal(Exception):
    """The engine says no before anything is generated."""

    def __init__(self, status: int, body: bytes, *, content_type: str = "application/json") -> None:
        super().__init__(body.decode("utf-8", "replace"))
        self.status = status
        self.body = body
        self.content_type = content_type


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def dump(value: Any) -> bytes:
    """JSON as the engines write it: no spaces, UTF-8."""
    return _ENCODER.encode(value).encode("utf-8", "replace")
