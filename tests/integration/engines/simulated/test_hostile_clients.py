"""Clients that send garbage, read slowly, or leave: the loop goes on for the others."""

from __future__ import annotations

import random
import resource
import socket
from collections.abc import Iterator

import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.integration.engines.simulated.talk import TIMEOUT_S, ask, connect, generate, http, receive


@pytest.fixture(scope="module", params=["vllm-mistral-7b", "tgi-mistral-7b"])
def shared(request: pytest.FixtureRequest) -> Iterator[SimulatedServer]:
    with simulated_engine(request.param, speed=50, never_stops=True) as running:
        yield running


@pytest.fixture
def server(shared: SimulatedServer) -> Iterator[SimulatedServer]:
    yield shared
    _, completion = generate(shared)
    assert completion.failure is None, "the server no longer serves"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET  HTTP/1.1\r\n\r\n", b"400"),
        (b"POST /v1/completions HTTP/1.1\r\ncontent-length: ten\r\n\r\n", b"400"),
        (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 999999999999\r\n\r\n", b"413"),
        (b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000, b"431"),
    ],
)
def test_what_is_no_request_is_answered_and_closed(server: SimulatedServer, data: bytes, status: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(data)
        received = b""
        try:
            while chunk := sock.recv(65536):
                received += chunk
        except ConnectionResetError:
            # closing a socket that still has unread bytes resets it
            pass
        assert received == b"" or received.split()[1] == status


def test_random_bytes_do_no_harm(server: SimulatedServer) -> None:
    draw = random.Random(5)
    for _ in range(100):
        with connect(server) as sock:
            sock.sendall(draw.randbytes(draw.randrange(1, 400)) + draw.choice([b"", b"\r\n\r\n"]))


def test_random_bodies_get_an_answer(server: SimulatedServer) -> None:
    draw = random.Random(6)
    texts = [
        b"null",
        b"1",
        b'"x"',
        b"{}",
        b'{"prompt":"\\ud800","inputs":"\\ud800","max_tokens":1}',
        b"\x00",
        b"\xff" * 9,
    ]
    values = ["null", "-1", "1e400", '"x"', "[]", "{}", "true", '[{"role":1}]', "9" * 5000, '{"include_usage":1}']
    names = ["prompt", "inputs", "max_tokens", "stream", "messages", "parameters", "n", "stream_options", "temperature"]
    for _ in range(150):
        chosen = draw.sample(names, 4)
        texts.append(("{" + ",".join(f'"{name}":{draw.choice(values)}' for name in chosen) + "}").encode())
    paths = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/generate", "/generate_stream"]
    for text in texts:
        for path in (draw.choice(paths), "/v1/completions"):
            response = ask(server, http("POST", path, text))
            assert response.status in (200, 400, 404, 422), (path, text)


def test_a_request_may_come_byte_by_byte(server: SimulatedServer) -> None:
    body = {"model": server.model, "prompt": " the", "max_tokens": 2}
    with connect(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in http("POST", "/v1/completions", body):
            sock.sendall(bytes([byte]))
        assert receive(sock, sent_ns=0).body.startswith(b"HTTP/1.1 200")
    truth = server.truth()[-1]
    assert truth["arrival_ns"] <= truth["first_token_ns"]


def test_pipelined_requests_are_answered_in_order(server: SimulatedServer) -> None:
    bodies = [{"model": server.model, "prompt": " the", "max_tokens": k} for k in (3, 1, 2)]
    with connect(server) as sock:
        sock.sendall(b"".join(http("POST", "/v1/completions", body) for body in bodies) + http("GET", "/health"))
        received = b""
        while received.count(b"HTTP/1.1 200") < 4:
            received += sock.recv(65536)
    counts = [part.split(b":")[1].split(b",")[0].strip(b"}") for part in received.split(b'completion_tokens"')[1:]]
    assert [int(count.split(b":")[-1]) for count in counts] == [3, 1, 2]


def test_a_chunked_request_and_one_that_waits_to_continue(server: SimulatedServer) -> None:
    with connect(server) as sock:
        head = b"POST /v1/completions HTTP/1.1\r\n"
        body = b'{"prompt":" the","max_tokens":2}'
        sock.sendall(head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert receive(sock, sent_ns=0).body.startswith(b"HTTP/1.1 200")
        sock.sendall(head + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(body)
        assert receive(sock, sent_ns=0).body.startswith(b"HTTP/1.1 200")


def test_http_1_0_and_connection_close_end_the_connection(server: SimulatedServer) -> None:
    for request in (b"GET /health HTTP/1.0\r\n\r\n", http("GET", "/health", connection="close")):
        with connect(server) as sock:
            sock.sendall(request)
            received = b""
            while data := sock.recv(65536):
                received += data
            assert received.startswith(b"HTTP/1.1 200")


def test_too_many_connections_wait_and_do_not_end_the_server(server: SimulatedServer) -> None:
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (24, hard))
    socks = [connect(server) for _ in range(40)]
    sleep_s(0.2)
    assert server.about()["simulated"] is True
    for sock in socks:
        sock.close()
    assert ask(server, http("GET", "/health")).status == 200
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_a_client_that_does_not_read_holds_nobody_up() -> None:
    """Its bytes pile up in memory while the loop goes on; when it reads at last, all of them are there."""
    with simulated_engine("vllm-mistral-7b", speed=1000) as server:
        read_nothing_then_all(server)


def read_nothing_then_all(server: SimulatedServer) -> None:
    body = {"model": server.model, "prompt": " the", "max_tokens": 20_000, "stream": True, "ignore_eos": True}
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(TIMEOUT_S)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(http("POST", "/v1/completions", body))
        deadline_ns = monotonic_ns() + int(TIMEOUT_S * 1e9)
        while not any(record["blocked_sends"] for record in server.ask("GET", "/truth?tokens=0")["requests"]):
            assert monotonic_ns() < deadline_ns
            sleep_s(0.05)
        _, completion = generate(server)
        assert completion.failure is None
        capture = receive(sock, sent_ns=0)
    assert capture.ended == "complete"
    assert capture.body.count(b'"text":') == 20_000
