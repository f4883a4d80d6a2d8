"""One request being answered: its tokens go out as its wire says, unless a planned fault comes between."""

from __future__ import annotations

from typing import Protocol

from engines.clock import monotonic_ns
from engines.simulated.ask import Ask, Timing
from engines.simulated.connection import Connection
from engines.simulated.faults import (
    Abort,
    Coalesce,
    Cut,
    ErrorEvent,
    Garbage,
    NoFinish,
    PerRequest,
    Stall,
    WrongUsage,
)
from engines.simulated.http import LAST_CHUNK, chunk, head_bytes, whole_response
from engines.simulated.outputs import Output
from engines.simulated.scheduler import Sequence
from engines.simulated.truth import TruthRecord


class Writer(Protocol):
    """How one wire puts one answer into bytes."""

    usage_error: int

    def headers(self) -> dict[str, str]:
        """Of the stream."""

    def opening(self) -> bytes:
        """What goes out with the first token."""

    def tokens(self, first: int, end: int, finish: str | None) -> bytes:
        """Tokens `first` to `end` - 1."""

    def closing(self, count: int) -> bytes:
        """After the last token."""

    def failure(self, message: str) -> bytes:
        """An error event."""

    def whole(self, count: int, finish: str | None, timing: Timing) -> tuple[bytes, dict[str, str]]:
        """The answer that does not stream."""


#: faults that end an answer before its token `token`
Ending = Cut | ErrorEvent | Garbage | Abort | NoFinish


class Generation:
    """Tokens come in with `advance`, bytes go out on the connection."""

    __slots__ = (
        "_chunk_tokens",
        "_ending",
        "_head_sent",
        "_output",
        "_ready",
        "_sent",
        "_stall",
        "_writer",
        "ask",
        "connection",
        "over",
        "sequence",
        "truth",
    )

    def __init__(
        self,
        connection: Connection,
        ask: Ask,
        output: Output,
        writer: Writer,
        truth: TruthRecord,
        faults: tuple[PerRequest, ...],
    ) -> None:
        self.connection = connection
        self.ask = ask
        self._output = output
        self._writer = writer
        self.truth = truth
        self.sequence = Sequence(len(ask.prompt), len(output.ids), ask.max_tokens, owner=self)
        self._ending: Ending | None = next((f for f in faults if isinstance(f, Ending)), None)
        self._stall = next((f for f in faults if isinstance(f, Stall)), None)
        self._chunk_tokens = next((f.tokens for f in faults if isinstance(f, Coalesce)), 1)
        writer.usage_error = next((f.tokens for f in faults if isinstance(f, WrongUsage)), 0)
        self._head_sent = False
        #: tokens that came out of the scheduler, and those that went to the socket
        self._ready = 0
        self._sent = 0
        #: the answer has ended, one way or another
        self.over = False

    @property
    def finish_reason(self) -> str:
        """In the engines' common words."""
        return "stop" if self._output.stopped else "length"

    def stall_s(self, token: int) -> float | None:
        """How long the stream stops before token `token`, where a fault says so."""
        if self._stall is not None and self._stall.token == token:
            return self._stall.seconds
        return None

    def send_head(self) -> None:
        """A stream's head goes out as soon as the request is taken."""
        if self.over or self._head_sent:
            return
        self._send_stream_head()
        self._flush()

    def advance(self) -> None:
        """One more token is there."""
        self._ready += 1
        if self._head_sent:
            self._flush()

    def abort(self) -> None:
        """The engine gives up: says so, and ends the answer properly."""
        self._end_early(Abort(kind="abort", token=self._sent if self.ask.stream else self._ready))

    def client_gone(self) -> None:
        """Nobody reads any more."""
        self._close("client_gone", None)

    def _send_stream_head(self) -> None:
        self._head_sent = True
        if self.ask.stream:
            last = {} if self.connection.keep_alive else {"connection": "close"}
            self.connection.send(head_bytes(200, self._writer.headers() | last))

    def _flush(self) -> None:
        if self.over:
            return
        ending = self._ending
        ready = self._ready
        if ending is not None and ready > ending.token:
            if self.ask.stream and ending.token > self._sent:
                self._send_tokens(ending.token, None)
            self._end_early(ending)
            return
        last = ready == len(self._output.ids)
        if not self.ask.stream:
            if last:
                self._send_whole(ready, self.finish_reason)
                self._close("complete", self.finish_reason)
            return
        if ready > self._sent and (last or ready - self._sent >= self._chunk_tokens):
            self._send_tokens(ready, self.finish_reason if last else None)
            if last:
                self._close("complete", self.finish_reason)

    def _send_tokens(self, end: int, finish: str | None) -> None:
        writer = self._writer
        first = self._sent
        data = chunk(writer.tokens(first, end, finish))
        if first == 0:
            opening = writer.opening()
            if opening:
                data = chunk(opening) + data
        if finish is not None:
            data += self._framed_end(end)
        self._sent = end
        now_ns = monotonic_ns()
        if end - first == 1:
            self.truth.token_ns.append(now_ns)
        else:
            self.truth.token_ns.extend([now_ns] * (end - first))
        if not self.connection.send(data):
            self.truth.blocked_sends += 1

    def _framed_end(self, count: int) -> bytes:
        closing = self._writer.closing(count)
        return (chunk(closing) if closing else b"") + LAST_CHUNK

    def _send_whole(self, count: int, finish: str | None, *, cut: bool = False) -> None:
        now_ns = monotonic_ns()
        begun_ns = self.truth.begun_ns or now_ns
        queue_s = max(0, begun_ns - self.truth.arrival_ns) / 1e9
        body, headers = self._writer.whole(count, finish, Timing(queue_s, (now_ns - begun_ns) / 1e9))
        data = whole_response(200, body, headers)
        if cut:
            data = data[: len(data) - len(body) // 2 - 1]
        now_ns = monotonic_ns()
        self.truth.token_ns.extend([now_ns] * count)
        if not self.connection.send(data):
            self.truth.blocked_sends += 1

    def _end_early(self, ending: Ending) -> None:
        """Carry out a fault that ends the answer."""
        connection, writer = self.connection, self._writer
        if not self.ask.stream:
            self._end_whole_early(ending)
            return
        if not self._head_sent:
            self._send_stream_head()
        match ending:
            case Cut():
                self._close("cut", None)
                if ending.reset:
                    connection.close(reset=True)
                else:
                    connection.close_when_sent()
            case Garbage():
                connection.send(b"zz\r\n\x00\xffthis is no chunk\r\n")
                self._close("garbage", None)
                connection.close_when_sent()
            case ErrorEvent():
                connection.send(chunk(writer.failure(ending.message)) + LAST_CHUNK)
                self._close("error_event", None)
            case Abort():
                event = writer.tokens(self._sent, self._sent, "abort") or writer.failure("aborted")
                connection.send(chunk(event) + self._framed_end(self._sent))
                self._close("abort", "abort")
            case NoFinish():
                done = b"data: [DONE]\n\n" if self.ask.route != "native" else b""
                connection.send((chunk(done) if done else b"") + LAST_CHUNK)
                self._close("no_finish", None)

    def _end_whole_early(self, ending: Ending) -> None:
        match ending:
            case Cut() | Garbage():
                self._send_whole(ending.token, None, cut=True)
                self._close(ending.kind, None)
                self.connection.close_when_sent()
            case ErrorEvent():
                body = self._writer.failure(ending.message).partition(b"{")
                content = (body[1] + body[2]).partition(b"\n")[0]
                self.connection.send(whole_response(500, content, {"content-type": "application/json"}))
                self.truth.status = 500
                self._close("error_event", None)
            case Abort() | NoFinish():
                finish = "abort" if isinstance(ending, Abort) else None
                self._send_whole(ending.token, finish)
                self._close(ending.kind, finish)

    def _close(self, outcome: str, finish: str | None) -> None:
        if self.over:
            return
        self.over = True
        truth = self.truth
        truth.outcome = outcome
        truth.finish_reason = finish
        truth.end_ns = monotonic_ns()
        truth.preemptions = self.sequence.preemptions
