"""Nothing that was left by a read, or came together with something else, is forgotten."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench_runner.load.connection import READ_BYTES
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from engines.clock import sleep_s
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import CHUNK, LAST_CHUNK, SSE_HEAD, EndConnection, Peer, scripted_server

#: so many of these fill a read to its last byte
FRAME = b"3f9\r\n%b\r\n" % (b"x" * 0x3F9)


def test_reads_that_bring_all_they_may_are_followed_by_others(tmp_path: Path) -> None:
    """And nothing more is sent that would bring them."""

    def blast(peer: Peer) -> None:
        if peer.index % 2:  # without chunks
            body = b"x" * (8 * READ_BYTES - 64)
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-filling: " % len(body)
            peer.send(head + b"x" * (64 - len(head) - 4) + b"\r\n\r\n" + body)
            return
        peer.send(SSE_HEAD)
        sleep_s(0.02)
        peer.send(CHUNK)
        sleep_s(0.02)
        peer.send(FRAME * (8 * READ_BYTES // len(FRAME)))
        sleep_s(0.02)
        peer.send(LAST_CHUNK)

    assert READ_BYTES % len(FRAME) == 0
    with scripted_server(blast) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 8, 2, reused=True, request_timeout_s=10.0)
        captures = list(drive(plan, RunControl()).captures())
    assert {capture.ended for capture in captures} == {"complete"}
    assert {len(capture.body) // READ_BYTES for capture in captures} == {8}


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_an_end_that_came_with_data_is_seen(tmp_path: Path, pause_s: float) -> None:
    def stream(peer: Peer) -> None:
        peer.send(SSE_HEAD)
        for _ in range(3):
            sleep_s(pause_s)
            peer.send(CHUNK)
        if peer.index % 2:
            peer.sock.shutdown(socket.SHUT_WR)
            peer.wait_for_close()
        raise EndConnection

    with scripted_server(stream) as server:
        captures = list(
            drive(make_plan(tmp_path / "spool", server.port, 40, request_timeout_s=10.0), RunControl()).captures()
        )
    assert {capture.ended for capture in captures} == {"eof"}
    assert {capture.body for capture in captures} == {SSE_HEAD + 3 * CHUNK}
