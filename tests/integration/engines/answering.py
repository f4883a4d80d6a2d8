"""A small HTTP server that answers what a test tells it, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as the server got it. Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Reply:
    """What it answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(content: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"content-type": "application/json"})


def as_events(*events: object, done: bool = True) -> Reply:
    """Server-sent events, one a JSON value."""
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if done else "")
    return Reply(200, data.encode(), {"content-type": "text/event-stream"})


def completion_events(model: str = "tiny", tokens: int = 8, finish: str = "length") -> Reply:
    """What vLLM streams for a short completion."""
    head = {"id": "c", "object": "text_completion", "created": 1, "model": model}
    events: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "text": f" {n}", "finish_reason": None}]} for n in range(tokens)
    ]
    events[-1]["choices"][0]["finish_reason"] = finish
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
    return as_events(*events, {**head, "choices": [], "usage": usage})


def native_events(tokens: int = 8, said: int | None = None) -> Reply:
    """What TGI's native route streams; `said` is the count in its details."""
    events: list[dict[str, Any]] = [
        {
            "index": n + 1,
            "token": {"id": n, "text": f" {n}", "logprob": -0.1, "special": False},
            "generated_text": None,
            "details": None,
        }
        for n in range(tokens)
    ]
    count = tokens if said is None else said
    events[-1]["generated_text"] = "".join(event["token"]["text"] for event in events)
    events[-1]["details"] = {"finish_reason": "length", "generated_tokens": count, "seed": None, "input_length": 10}
    return as_events(*events, done=False)


Routes = Mapping[str, Reply | Callable[[Asked], Reply]]


class Answering:
    """The running server."""

    def __init__(self, routes: Routes, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                return

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                self._answer(json.loads(self.rfile.read(length)))

            def _answer(self, body: dict[str, Any]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                outer.asked.append(asked)
                found = routes.get(self.path, Reply(404, b'{"detail":"Not Found"}'))
                reply = found(asked) if callable(found) else found
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(reply.body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}" if tls is None else f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def answering(routes: Routes, tls: ssl.SSLContext | None = None) -> Iterator[Answering]:
    """A server for the length of a with block."""
    server = Answering(routes, tls)
    try:
        yield server
    finally:
        server.close()
