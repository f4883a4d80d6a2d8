"""`python -m engines.simulated.replay --timeline FILE`: answers with the tokens of a given timeline; keeps the truth.

It has no model: `POST /replay/K` is answered by one stream whose tokens leave at the arrival of that request + their
offsets in row K of the file. `GET /truth` gives the moments at which requests arrived and tokens left, which is what a
client's own stamps are held against.

Prints one line of JSON when it listens, and serves until SIGTERM or the end of its stdin.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import socket
import sys
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from engines.clock import monotonic_ns
from engines.simulated.connection import Connection, KernelClock
from engines.simulated.http import LAST_CHUNK, BadRequest, HttpRequest, chunk, head_bytes, whole_response
from engines.simulated.lifetime import end_with_parent, end_with_signals
from engines.simulated.listener import Listener
from engines.simulated.loop import Loop
from engines.simulated.truth import TruthLog, TruthRecord

ROUTE = "/replay/"
_STREAM = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
_JSON = {"content-type": "application/json"}
_EVENT = b'data: {"object":"text_completion","choices":[{"index":0,"text":" %b","finish_reason":null}]}\n\n'
_BARE_BYTES = len(_EVENT % b"")


class Timeline:
    """What is to be replayed: JSON, `{"event_bytes": B, "offsets_ns": [[…], …]}`, one row a request.

    Offsets are from the request's arrival and never fall; tokens that are due together leave together. `event_bytes` is
    the size of one token's event, its end included; one that is too small is taken as the smallest there can be.
    """

    def __init__(self, event_bytes: int, offsets_ns: Sequence[Sequence[int]]) -> None:
        self.event = _EVENT % (b"x" * max(1, event_bytes - _BARE_BYTES))
        self.rows = offsets_ns

    @classmethod
    def read(cls, path: Path) -> Timeline:
        """The timeline in a file."""
        stored = json.loads(path.read_bytes())
        return cls(stored["event_bytes"], stored["offsets_ns"])

    def end(self, tokens: int) -> bytes:
        """What follows the last token: why it ended, how many there were."""
        reason = b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n'
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":%d}}\n\n' % tokens
        return chunk(reason + usage + b"data: [DONE]\n\n") + LAST_CHUNK


class Answer:
    """One request being answered."""

    __slots__ = ("_offsets_ns", "connection", "truth")

    def __init__(self, connection: Connection, offsets_ns: Sequence[int], truth: TruthRecord) -> None:
        self.connection = connection
        self.truth = truth
        self._offsets_ns = offsets_ns

    @property
    def next_ns(self) -> int | None:
        """When the next token is due; `None`: all are out."""
        sent = len(self.truth.token_ns)
        return self.truth.arrival_ns + self._offsets_ns[sent] if sent < len(self._offsets_ns) else None

    def due(self, now_ns: int) -> int:
        """Tokens that are to leave now."""
        sent = len(self.truth.token_ns)
        return bisect_right(self._offsets_ns, now_ns - self.truth.arrival_ns, sent) - sent


class ReplayServer:
    """Listens from construction on; `run` serves until it is told to end."""

    def __init__(self, timeline: Timeline, host: str = "127.0.0.1", port: int = 0) -> None:
        self._timeline = timeline
        self._truth = TruthLog(max(1, 2 * len(timeline.rows)))
        self.loop = Loop()
        self._clock = KernelClock()
        self._listener = Listener(host, port, self.loop, nodelay=True, on_socket=self._on_socket)
        self._head = head_bytes(200, _STREAM)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    def run(self) -> None:
        """Serve until told to end."""
        self.loop.run()
        self._listener.close()

    def shut_down(self) -> None:
        """End, whatever is under way."""
        self.loop.stop()

    def _on_socket(self, sock: socket.socket) -> None:
        try:
            Connection(sock, self.loop, self._clock, self._on_bytes, self._on_gone)
        except OSError:
            # gone before it was looked at
            sock.close()

    def _on_gone(self, connection: Connection) -> None:
        if isinstance(connection.generation, Answer):
            connection.generation.truth.outcome = "client_gone"

    def _on_bytes(self, connection: Connection) -> None:
        while not connection.busy and not connection.closed:
            try:
                request = connection.reader.next()
            except BadRequest as bad:
                connection.send(whole_response(bad.status, str(bad).encode(), {"connection": "close"}))
                connection.close_when_sent()
                return
            if request is None:
                return
            connection.keep_alive = request.keep_alive
            connection.busy = True
            self._take(connection, request)

    def _take(self, connection: Connection, request: HttpRequest) -> None:
        row = _row_of(request, len(self._timeline.rows))
        if row is not None:
            self._begin(connection, row)
            return
        status, body = 404, b'{"error": "GET /truth, or POST /replay/K with K a row of the timeline"}'
        if (request.method, request.path) == ("GET", "/truth"):
            status, body = 200, json.dumps(self._truth.since(0)).encode()
        connection.send(whole_response(status, body, _JSON))
        self._done(connection)

    def _begin(self, connection: Connection, row: int) -> None:
        offsets_ns = self._timeline.rows[row]
        truth = TruthRecord(
            0, connection.peer_port, f"{ROUTE}{row}", True, connection.arrival_ns, connection.arrival_clock, 0, 0,
            len(offsets_ns), len(offsets_ns),
        )  # fmt: skip
        answer = Answer(connection, offsets_ns, self._truth.open(truth))
        connection.generation = answer
        connection.send(self._head)
        self._await_next(answer)

    def _await_next(self, answer: Answer) -> None:
        if (due_ns := answer.next_ns) is None:
            self._finish(answer)
        else:
            self.loop.call_at(due_ns, lambda: self._send(answer))

    def _send(self, answer: Answer) -> None:
        """What is due, in one send: a server that is late must not queue up small segments behind a late ACK."""
        connection, truth = answer.connection, answer.truth
        if connection.closed:
            return
        count = answer.due(monotonic_ns())
        data = chunk(self._timeline.event) * count
        stamps = array("q", (monotonic_ns(),)) * count
        if not connection.send(data):
            truth.blocked_sends += 1
        truth.token_ns += stamps
        self._await_next(answer)

    def _finish(self, answer: Answer) -> None:
        connection, truth = answer.connection, answer.truth
        connection.send(self._timeline.end(len(truth.token_ns)))
        truth.end_ns = monotonic_ns()
        truth.outcome, truth.finish_reason = "complete", "length"
        self._done(connection)
        if not connection.closed:
            # a request that came meanwhile may wait already
            self.loop.call_soon(lambda: self._on_bytes(connection))

    def _done(self, connection: Connection) -> None:
        """The answer is out: the next request of the connection may be read."""
        connection.busy = False
        connection.generation = None
        if not connection.keep_alive:
            connection.close_when_sent()


def _row_of(request: HttpRequest, rows: int) -> int | None:
    """The row that a request asks for; `None`: it asks for none that there is."""
    number = request.path.removeprefix(ROUTE)
    if request.method != "POST" or number == request.path or not (number.isascii() and number.isdigit()):
        return None
    return int(number) if len(number) < 10 and int(number) < rows else None


def _raise_priority() -> None:
    """A preemption between a token's stamp and its send would be an error of the truth."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return  # not permitted: some stamps may be early, which counts against the client


def main(argv: list[str]) -> int:
    """Serve a timeline."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.simulated.replay", description="A server of known answers."
    )
    parser.add_argument("--timeline", type=Path, required=True, help="JSON: event_bytes, offsets_ns")
    arguments = parser.parse_args(argv)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = ReplayServer(Timeline.read(arguments.timeline))
    end_with_signals(server)
    end_with_parent(server)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
    sys.stdout.write(json.dumps({"event": "ready", "port": server.port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    _raise_priority()
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
