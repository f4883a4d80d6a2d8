"""Captures out of bytes: what a load process would have kept, without one."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from engines.contract import Capture

RECORDINGS = Path(__file__).parents[1] / "recordings"

SENT_NS = 1_000_000_000
#: read k is stamped READ_NS + k * STEP_NS by our clock, LAG_NS earlier by the kernel
READ_NS = 2_000_000_000
STEP_NS = 1_000_000
LAG_NS = 1_000


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The pieces of `data` when cut at these offsets; never an empty one."""
    bounds = sorted({0, len(data), *(p % (len(data) + 1) for p in places)})
    return [data[a:b] for a, b in pairwise(bounds)]


def make_capture(
    reads: Sequence[bytes] | bytes,
    *,
    ended: str = "complete",
    error: str = "",
    sent_ns: int = SENT_NS,
    kernel: Sequence[bool] | bool = True,
) -> Capture:
    """A Capture whose reads carried these pieces. `kernel`: which reads have a kernel stamp."""
    pieces = [reads] if isinstance(reads, bytes) else list(reads)
    pieces = [p for p in pieces if p]
    stamped = [kernel] * len(pieces) if isinstance(kernel, bool) else list(kernel)
    users = [READ_NS + k * STEP_NS for k in range(len(pieces))]
    return Capture(
        index=0,
        scheduled_ns=SENT_NS,
        sent_ns=sent_ns,
        sent_clock="user",
        connect_s=0.0,
        local_port=40_000,
        process=0,
        resends=0,
        read_user_ns=array("q", users),
        read_kernel_ns=array("q", [u - LAG_NS if s else 0 for u, s in zip(users, stamped, strict=True)]),
        read_bytes=array("q", [len(p) for p in pieces]),
        body=b"".join(pieces),
        ended=ended,
        ended_ns=READ_NS + len(pieces) * STEP_NS,
        error=error,
    )


def chunked(pieces: Iterable[bytes]) -> list[bytes]:
    """The pieces as HTTP chunks, the last one included."""
    return [b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p] + [b"0\r\n\r\n"]


def head(
    status: str = "200 OK", *, content_type: str = "text/event-stream", version: str = "1.1", **headers: str
) -> bytes:
    """Status line and headers with their empty line. Header names are written with `_` for `-`."""
    lines = [f"HTTP/{version} {status}", f"content-type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def event(value: dict[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = value if isinstance(value, str) else json.dumps(value)
    return b"data: " + text.encode() + b"\n\n"


def stream(*events: dict[str, Any] | str, done: bool = True) -> list[bytes]:
    """The reads of a chunked stream: the head, then each event in a read of its own, `[DONE]`, the last chunk."""
    values = [*events, "[DONE]"] if done else list(events)
    return [head(transfer_encoding="chunked"), *chunked(event(v) for v in values)]


def answer(
    value: dict[str, Any] | bytes, status: str = "200 OK", *, content_type: str = "application/json", **headers: str
) -> list[bytes]:
    """The reads of an answer with a content-length: head and body."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return [head(status, content_type=content_type, content_length=str(len(body)), **headers), body]


def read_recording(name: str) -> tuple[bytes, bytes]:
    """Head (with its empty line) and de-chunked body of a recording, such as "vllm-0.32.0/cmpl_stream"."""
    path = RECORDINGS / name
    lines = path.with_suffix(path.suffix + ".headers").read_bytes().rstrip(b"\r\n")
    return lines + b"\r\n\r\n", path.with_suffix(path.suffix + ".body").read_bytes()
