"""A plain-socket client: one request out, the response's bytes and stamps back, as a Capture that dialects decode."""

from __future__ import annotations

import json
import socket
import threading
from array import array
from dataclasses import replace
from typing import Any

from engines.catalog import encode_request, find_dialect, find_engine
from engines.clock import monotonic_ns
from engines.contract import Capture, Completion, Endpoint, GenerationRequest, Origin
from engines.dialects.http1 import ResponseFramer
from engines.dialects.http1_response import ParsedResponse, split_response
from engines.simulated.start import SimulatedServer

TIMEOUT_S = 30.0


def connect(server: SimulatedServer) -> socket.socket:
    """A connection that gives up after a while."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)


def http(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """One request; a body that is not bytes is written as JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: sim", f"content-length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def receive(sock: socket.socket, *, sent_ns: int) -> Capture:
    """Everything up to the response's end."""
    framer = ResponseFramer()
    stamps, sizes = array("q"), array("q")
    pieces: list[bytes] = []
    ended, error = "complete", ""
    port = sock.getsockname()[1]
    while True:
        try:
            data = sock.recv(1 << 20)
        except TimeoutError:
            ended = "timeout"
            break
        except OSError as lost:
            ended, error = "reset", str(lost)
            break
        if not data:
            ended = "eof"
            break
        stamps.append(monotonic_ns())
        sizes.append(len(data))
        pieces.append(data)
        if framer.feed(data):
            ended = "malformed" if framer.malformed else "complete"
            break
    return Capture(
        index=0,
        scheduled_ns=sent_ns,
        sent_ns=sent_ns,
        sent_clock="user",
        connect_s=0.0,
        local_port=port,
        process=0,
        resends=0,
        read_user_ns=stamps,
        read_kernel_ns=array("q", [0] * len(stamps)),
        read_bytes=sizes,
        body=b"".join(pieces),
        ended=ended,
        ended_ns=monotonic_ns(),
        error=error,
    )


def ask(server: SimulatedServer, payload: bytes) -> ParsedResponse:
    """One request on a connection of its own, the whole response."""
    with connect(server) as sock:
        sock.sendall(payload)
        return split_response(receive(sock, sent_ns=monotonic_ns()).body)


def ask_json(server: SimulatedServer, method: str, path: str, body: Any = None) -> tuple[int | None, Any]:
    """Status and decoded JSON of one request."""
    response = ask(server, http(method, path, body))
    return response.status, json.loads(response.content)


def events(content: bytes) -> list[dict[str, Any]]:
    """The JSON events of a stream; `[DONE]` left out."""
    lines = [line for line in content.decode().split("\n") if line.startswith("data:")]
    values = [line.removeprefix("data:").strip() for line in lines]
    return [json.loads(value) for value in values if value != "[DONE]"]


def payload(server: SimulatedServer, endpoint: Endpoint, request: GenerationRequest, *, keep_alive: bool) -> bytes:
    """What the load process would send."""
    engine = find_engine(server.profile.partition("-")[0])
    origin = Origin("http", "127.0.0.1", server.port, "", "127.0.0.1")
    return encode_request(engine, endpoint, request, origin, index=0, keep_alive=keep_alive).payload


def generate(
    server: SimulatedServer, *, endpoint: Endpoint = Endpoint.COMPLETIONS, prompt: str = " the energy", **fields: Any
) -> tuple[Capture, Completion]:
    """One generation by the real dialect: what came, and what it was understood as."""
    request = replace(GenerationRequest(server.model, prompt, 8), **fields)
    _, dialect = find_dialect(find_engine(server.profile.partition("-")[0]), endpoint)
    with connect(server) as sock:
        sent_ns = monotonic_ns()
        sock.sendall(payload(server, endpoint, request, keep_alive=False))
        capture = receive(sock, sent_ns=sent_ns)
    return capture, dialect.decode(capture)


def burst(server: SimulatedServer, count: int, **fields: Any) -> list[tuple[Capture, Completion]]:
    """`count` generations at once, each with a prompt of its own; in order."""
    answers: list[tuple[Capture, Completion]] = []
    lock = threading.Lock()

    def one(k: int) -> None:
        answer = generate(server, prompt=f" {k} the energy of light", **fields)
        with lock:
            answers.append(answer)

    threads = [threading.Thread(target=one, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
