"""`python -m engines.simulated.replay --timeline FILE`: answers with the tokens of a given timeline; keeps the truth.

It has no model: `POST /replay/K` is answered by one stream whose tokens leave at the arrival of that request + their
offsets in row K of the file. `POST /v1/completions` takes the rows in turn, as far as `max_tokens` says, so that any
client of the OpenAI API can be held against it. `GET /truth` gives the moments at which requests arrived and tokens
left, which is what a client's own stamps are held against.

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
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from engines.clock import monotonic_ns
from engines.simulated.connection import Connection, KernelClock
from engines.simulated.http import BadRequest, HttpRequest, head_bytes, whole_response
from engines.simulated.lifetime import end_with_parent, end_with_signals
from engines.simulated.listener import Listener
from engines.simulated.loop import Loop
from engines.simulated.timeline import Answer, Timeline
from engines.simulated.truth import TruthLog, TruthRecord

if TYPE_CHECKING:
    from engines.simulated.tls import TlsEnd

ROUTE = "/replay/"
COMPLETIONS = "/v1/completions"
#: the name of what does not generate
MODEL = "replay"
_STREAM = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
_JSON = {"content-type": "application/json"}


class ReplayServer:
    """Listens from construction on; `run` serves until it is told to end."""

    def __init__(
        self, timeline: Timeline, host: str = "127.0.0.1", port: int = 0, new_tls: Callable[[], TlsEnd] | None = None
    ) -> None:
        self._timeline = timeline
        self._new_tls = new_tls
        self._truth = TruthLog(timeline.keep)
        self._turn = count()
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
            tls = self._new_tls() if self._new_tls else None
            Connection(sock, self.loop, self._clock, self._on_bytes, self._on_gone, tls)
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
                if request is None:
                    return
                connection.keep_alive = request.keep_alive
                connection.busy = True
                self._take(connection, request)
            except BadRequest as bad:
                connection.send(whole_response(bad.status, str(bad).encode(), {"connection": "close"}))
                connection.close_when_sent()
                return

    def _take(self, connection: Connection, request: HttpRequest) -> None:
        rows = self._timeline.rows
        row = _row_of(request, len(rows))
        if row is not None:
            self._begin(connection, request.path, rows[row], 0, len(rows[row]))
            return
        if (request.method, request.path) == ("POST", COMPLETIONS) and rows:
            prompt_tokens, most = _asked(request)
            self._begin(connection, COMPLETIONS, rows[next(self._turn) % len(rows)], prompt_tokens, most)
            return
        status, told = 404, None
        if request.method == "GET":
            told = self._told(request)
            status = 404 if told is None else 200
        body = told or {"error": "GET /truth, POST /v1/completions, or POST /replay/K with K a row of the timeline"}
        connection.send(whole_response(status, json.dumps(body).encode(), _JSON))
        self._done(connection)

    def _told(self, request: HttpRequest) -> dict[str, Any] | None:
        """What there is to know; `None`: not at this path."""
        match request.path:
            case "/truth":
                (since,) = parse_qs(request.query).get("since", ["0"])[-1:]
                return self._truth.since(int(since) if since.isdecimal() else 0)
            case "/v1/models":
                return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            case "/simulated":
                return {"replays": len(self._timeline.rows)}
            case _:
                return None

    def _begin(
        self, connection: Connection, route: str, row_ns: Sequence[int], prompt_tokens: int, max_tokens: int
    ) -> None:
        offsets_ns = row_ns if max_tokens >= len(row_ns) else row_ns[:max_tokens]
        truth = TruthRecord(
            0, connection.peer_port, route, True, connection.arrival_ns, connection.arrival_clock, prompt_tokens, 0,
            max_tokens, len(offsets_ns),
        )  # fmt: skip
        answer = Answer(connection, offsets_ns, self._truth.open(truth))
        connection.generation = answer
        connection.send(self._head)
        self._await_next(answer)

    def _await_next(self, answer: Answer) -> None:
        if (due_ns := answer.next_ns) is None:
            self._finish(answer)
        elif self._timeline.singly and due_ns <= monotonic_ns():
            # after a look at the sockets, and after every other answer has had its turn
            self.loop.call_soon(lambda: self._send_one(answer))
        else:
            self.loop.call_at(due_ns, lambda: self._send(answer))

    def _send(self, answer: Answer) -> None:
        """What is due, in one send: a server that is late must not queue up small segments behind a late ACK."""
        if self._timeline.singly:
            self._send_one(answer)
            return
        connection, truth = answer.connection, answer.truth
        if connection.closed:
            return
        tokens = answer.due(monotonic_ns())
        data = self._timeline.token * tokens
        stamps = array("q", (monotonic_ns(),)) * tokens
        if not connection.send(data):
            truth.blocked_sends += 1
        truth.token_ns += stamps
        self._await_next(answer)

    def _send_one(self, answer: Answer) -> None:
        """The next token, alone."""
        if answer.connection.closed:
            return
        stamp = monotonic_ns()
        if not answer.connection.send(self._timeline.token):
            answer.truth.blocked_sends += 1
        answer.truth.token_ns.append(stamp)
        self._await_next(answer)

    def _finish(self, answer: Answer) -> None:
        connection, truth = answer.connection, answer.truth
        reason = "length" if len(truth.token_ns) == truth.max_tokens else "stop"
        connection.send(self._timeline.end(truth.prompt_tokens, len(truth.token_ns), reason))
        truth.end_ns = monotonic_ns()
        truth.outcome, truth.finish_reason = "complete", reason
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


def _asked(request: HttpRequest) -> tuple[int, int]:
    """Words of the prompt, and the most tokens that are wanted.

    Raises:
        BadRequest: not a streaming completion of at least one token.
    """
    try:
        body = json.loads(request.body)
        prompt, most, stream = body["prompt"], body["max_tokens"], body["stream"]
    except (ValueError, KeyError, TypeError):
        raise BadRequest(400, "the body must be JSON with prompt, max_tokens and stream") from None
    if stream is not True or not isinstance(most, int) or most < 1:
        raise BadRequest(400, "stream must be true, and max_tokens a number from 1 on")
    return len(prompt.split()) if isinstance(prompt, str) else len(prompt), most


def _raise_priority() -> None:
    """A preemption between a token's stamp and its send would be an error of the truth."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return  # not permitted: some stamps may be early, which counts against the client


def _tls(pem: Path | None) -> Callable[[], TlsEnd] | None:
    if pem is None:
        return None
    from engines.simulated.tls import TlsEnd, server_context  # OpenSSL is loaded only where it is needed

    context = server_context(pem)
    return lambda: TlsEnd(context)


def main(argv: list[str]) -> int:
    """Serve a timeline."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.simulated.replay", description="A server of known answers."
    )
    parser.add_argument("--timeline", type=Path, required=True, help="JSON: event_bytes, offsets_ns, singly, keep")
    parser.add_argument("--tls-pem", type=Path, help="key and certificate in one file: listen for TLS")
    arguments = parser.parse_args(argv)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = ReplayServer(Timeline.read(arguments.timeline), new_tls=_tls(arguments.tls_pem))
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
