"""The types that cross from one server to whoever drives it. Plain frozen dataclasses: importable in the hot path.

GenerationRequest ──Dialect.encode──▶ WireRequest ──(load)──▶ Capture ──Dialect.decode──▶ Completion
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FailureKind(StrEnum):
    """Why a request is not a success. Where several hold, the order of `FAILURE_PRECEDENCE` decides."""

    CONNECT = "connect"
    """No connection: refused, reset before the request was out, or not in time."""
    REJECTED = "rejected"
    """An HTTP status other than 2xx, or TGI's overload and validation events inside a 200."""
    TIMEOUT = "timeout"
    """The request's own limit ran out."""
    BROKEN_STREAM = "broken_stream"
    """The connection ended inside the response."""
    ENGINE_ERROR = "engine_error"
    """An error event inside a 200."""
    ABORTED = "aborted"
    """The engine says itself that it gave up (`finish_reason: "abort"`)."""
    MALFORMED = "malformed"
    """Bytes that are not the protocol they claim to be."""
    INCOMPLETE = "incomplete"
    """Ended without a finish reason, or with fewer tokens than counted."""
    CANCELLED = "cancelled"
    """We stopped it: the run was cancelled, aborted or ran out of time. Never the engine's fault."""


#: Where several hold for one response, the first of these counts.
FAILURE_PRECEDENCE = (
    FailureKind.ENGINE_ERROR,
    FailureKind.ABORTED,
    FailureKind.BROKEN_STREAM,
    FailureKind.MALFORMED,
    FailureKind.INCOMPLETE,
)


#: Finish reasons of an output that ended before its length by itself, as OpenAI's routes and TGI's own name them.
EARLY_STOPS = ("stop", "eos_token", "stop_sequence")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one request failed."""

    kind: FailureKind
    message: str
    #: HTTP status where one was received.
    status: int | None = None


class Endpoint(StrEnum):
    """Which of a server's routes is driven."""

    COMPLETIONS = "completions"
    CHAT = "chat"
    NATIVE = "native"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What is asked of any engine, before a dialect puts it on the wire."""

    #: the model's name as the server knows it
    model: str
    #: text, or token ids where the engine takes them
    prompt: str | tuple[int, ...]
    max_tokens: int
    #: ask for exactly `max_tokens` tokens, however the engine is told so
    fixed_length: bool = True
    stream: bool = True
    #: 0 is greedy, the neutral default; other values are sent as they are
    temperature: float = 0.0
    #: further body fields from the workload, sent as they are, over everything else
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go. `address` is the resolved IP that stays pinned for the run."""

    scheme: str
    host: str
    port: int
    #: path prefix of the base URL, without a trailing slash ("" for none)
    base_path: str
    #: resolved IPv4 or IPv6 address
    address: str
    #: sent with every request, the authorization header included; never stored
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host_header(self) -> str:
        """`Host` header value: default ports left out, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}.get(self.scheme)
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Base URL without credentials or trailing slash."""
        return f"{self.scheme}://{self.host_header}{self.base_path}"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One complete HTTP/1.1 request, ready to be written to a socket."""

    #: position in the plan, from 0
    index: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """One request's raw bytes and stamps, as the load process kept them. All stamps: ns, monotonic clock.

    `read_user_ns`, `read_kernel_ns` and `read_bytes` run side by side, one entry a `recvmsg`; the response bytes are
    `body` (status line and headers included), so that read k ends at `sum(read_bytes[:k+1])`.
    """

    index: int
    #: planned send moment; equals `ready_ns` for closed-loop requests
    scheduled_ns: int
    #: read just before `send`, or the kernel's transmit stamp: `sent_clock` says which; 0: never sent
    sent_ns: int
    sent_clock: str
    #: 0 where the connection was there already
    connect_s: float
    local_port: int
    #: which load process drove it, from 0
    process: int
    #: times the request was sent again because a reused connection was closed before any response byte
    resends: int
    read_user_ns: array[int]
    #: 0 where the kernel gave no stamp
    read_kernel_ns: array[int]
    read_bytes: array[int]
    body: bytes
    #: how it ended: "complete" (framing says so), "eof", "reset", "timeout", "connect", "cancelled", "malformed"
    ended: str
    #: when it ended (user clock)
    ended_ns: int
    #: error text where `ended` is not "complete" or "eof"
    error: str = ""
    fresh_connection: bool = True
    #: for so long, at most, bytes may have waited for us that were then read together with later ones: from the last
    #: moment at which nothing waited on any connection to the read; 0: each read carried one chunk
    waited_ns: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a dialect understood of a Capture.

    `event_ns`, `event_tokens` and `event_shared` run side by side, one entry for each event that carried generated
    text or a token.
    """

    #: arrival of each token event, ns on the Capture's clock (kernel stamp where there is one, else the user stamp)
    event_ns: array[int]
    #: tokens in each event where the wire tells (running usage, token ids, TGI's one-a-frame); -1 unknown
    event_tokens: array[int]
    #: 1 where the event shares its read, and so its stamp, with an earlier event
    event_shared: array[int]
    #: "kernel", "user" or "mixed": what `event_ns` was read from; "" with no events
    clock: str
    text: str
    #: what the engine says it counted; `None` where it does not say
    input_tokens: int | None
    output_tokens: int | None
    #: where the counts came from: "usage", "details", "headers"; `None` without counts
    count_source: str | None
    #: prompt tokens served from the engine's prefix cache, where it says so
    cached_tokens: int | None
    finish_reason: str | None
    #: end of the response, ns
    closed_ns: int
    status: int | None
    failure: Failure | None
    #: generated token ids where the wire carries them
    token_ids: tuple[int, ...] | None = None
    #: the model's name as the answer gives it
    model: str | None = None
    #: of the shared ones those that came in a chunk of their own, so that they may have arrived before their stamp; in
    #: an answer without chunks, all of them
    merged_events: int = 0


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format, both ways, pure."""

    name: str
    #: route below the base URL, such as "/v1/completions"
    path: str
    #: JSON body of a request, before the engine's own fields are laid over it
    body: Callable[[GenerationRequest], dict[str, Any]]
    decode: Callable[[Capture], Completion]
    #: every frame carries exactly one token (TGI's native stream)
    one_token_per_event: bool = False
    #: route for a request that does not stream, where it is another one
    unstreamed_path: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one kind of server can do. Data, asked by planning and validity; never an if on the engine's name."""

    #: can be told to ignore EOS in a request, so that outputs have exactly the length asked for
    fixed_length: bool
    token_id_prompts: bool
    #: the engine counts tokens in a stream (asked for, or always)
    stream_usage: bool
    #: route that tokenises text, `None` where there is none
    tokenize_path: str | None
    #: route that answers the engine's version, `None` where there is none
    version_path: str | None
    metrics_path: str | None
    health_path: str | None
    #: text completions get a BOS that the engine counts, where the model has one
    adds_bos: bool
    #: refuses fields it does not know
    strict_fields: bool = False
    #: accepts `temperature: 0`
    temperature_zero: bool = True


@dataclass(frozen=True, slots=True)
class Engine:
    """One kind of server, as data."""

    name: str
    title: str
    capabilities: Capabilities
    #: the routes it has; the first is the default
    dialects: Mapping[Endpoint, Dialect]
    #: fields laid over the dialect's body: neutral sampling, fixed length, usage in the stream
    fields: Callable[[Endpoint, GenerationRequest], dict[str, Any]]
    #: canonical gauge or counter name -> the engine's own metric name in its /metrics
    metric_names: Mapping[str, str]
    #: command line of a local server: (model path or name, port, extra arguments) -> argv; `None`: attach only
    command: Callable[[str, int, tuple[str, ...]], list[str]] | None = None
    #: environment variables for the launched process
    launch_env: Mapping[str, str] = field(default_factory=dict)
    docs_url: str = ""
