"""One connection over a socket pair: what it sends, what it keeps, what it forgets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bench_runner.load.connection import ANCILLARY_BYTES, IDLE, READ_BYTES, SO_TIMESTAMPNS, Connection
from engines.clock import sleep_s

RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(socket.AF_INET)
        connection.sock.setblocking(True)
        assert connection.open(listener.getsockname(), now_ns=1) == 0
        assert connection.opened() == 0
        connection.sock.setblocking(False)
        peer, address = listener.accept()
        assert connection.local_port == address[1]
        with peer:
            yield connection, peer
        connection.close()


def test_what_a_socket_does_not_take_stays_pending(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    payload = memoryview(bytes(range(256)) * 100_000)
    assert connection.send(payload)
    received = b""
    while connection.pending is not None:
        received += peer.recv(1 << 20)
        assert connection.send(connection.pending, first=False)
    while len(received) < len(payload):
        received += peer.recv(1 << 20)
    assert received == payload


def test_a_peer_that_is_gone_is_told(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    connection.sock.shutdown(socket.SHUT_WR)
    assert not connection.send(memoryview(b"request"))
    assert connection.pending is not None
    assert bytes(connection.pending) == b"request"


def test_the_kernel_tells_when_a_request_left(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    assert connection.transmitted_ns() == 0
    connection.send(memoryview(b"request"))
    first = connection.transmitted_ns()
    assert first > 0
    assert connection.transmitted_ns() == 0
    connection.send(memoryview(b"its rest"), first=False)
    assert connection.transmitted_ns() == 0


def test_the_kernel_tells_when_bytes_came(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    connection.sock.setblocking(True)
    for _ in range(1_000):
        peer.sendall(b"x")
        _, ancillary, _, _ = connection.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        if ancillary:
            break
        # The kernel may begin to stamp a moment after it is asked to.
        sleep_s(0.002)
    assert [(level, kind, len(stamp)) for level, kind, stamp in ancillary] == [(socket.SOL_SOCKET, SO_TIMESTAMPNS, 16)]


def test_it_rests_between_requests(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    connection.begin(3, scheduled_ns=5)
    peer.sendall(RESPONSE)
    data, _, _, _ = connection.recvmsg(READ_BYTES, ANCILLARY_BYTES)
    assert data == RESPONSE
    assert connection.framer.feed(data)
    connection.answered = True
    connection.rest()
    assert (connection.state, connection.served) == (IDLE, 1)
    connection.begin(4, scheduled_ns=6)
    assert not connection.answered
    assert connection.framer.feed(RESPONSE)
