"""What goes wrong with one request is a measurement: how it ended, in which words, and what was read until then."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from engines.clock import sleep_s
from engines.contract import Capture
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import CHUNK, SSE_HEAD, EndConnection, Peer, scripted_server


def only(captures: list[Capture]) -> Capture:
    (capture,) = captures
    return capture


def test_refused(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcome = drive(closed_loop(tmp_path / "spool", closed.getsockname()[1], 5, 2), RunControl())
        captures = list(outcome.captures())
    assert outcome.ended == "complete"
    assert outcome.connections_opened == 0
    assert [(capture.ended, capture.sent_ns) for capture in captures] == [("connect", 0)] * 5
    assert {capture.error for capture in captures} == {"Connection refused"}


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a listener that never accepts, its queue full: connections neither stand nor fail."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_no_connection_in_time(tmp_path: Path, deaf: int) -> None:
    plan = make_plan(tmp_path / "spool", deaf, 1, connect_timeout_s=0.2)
    capture = only(list(drive(plan, RunControl()).captures()))
    assert (capture.ended, capture.sent_ns) == ("connect", 0)
    assert capture.error.startswith("no connection within 0.2")
    assert capture.connect_s >= 0.2


def test_many_connections_hang_together_not_in_turn(tmp_path: Path, deaf: int) -> None:
    # 500 are opened 64 at a time; eight turns of the timeout would outlast the run.
    plan = make_plan(tmp_path / "spool", deaf, 500, connect_timeout_s=1.0, run_timeout_s=7.0)
    outcome = drive(plan, RunControl())
    assert outcome.ended == "complete"
    assert {capture.ended for capture in outcome.captures()} == {"connect"}


def test_a_run_that_never_gets_its_connections(tmp_path: Path, deaf: int) -> None:
    plan = make_plan(tmp_path / "spool", deaf, 3, connect_timeout_s=30.0, run_timeout_s=0.3)
    outcome = drive(plan, RunControl())
    assert outcome.ended == "timeout"
    assert [(capture.ended, capture.sent_ns) for capture in outcome.captures()] == [("cancelled", 0)] * 3


def test_cut_off(tmp_path: Path) -> None:
    def cut(peer: Peer) -> None:
        peer.send(SSE_HEAD + CHUNK)
        raise EndConnection

    with scripted_server(cut) as server:
        capture = only(list(drive(make_plan(tmp_path / "spool", server.port, 1), RunControl()).captures()))
    assert (capture.ended, capture.body) == ("eof", SSE_HEAD + CHUNK)


def test_reset(tmp_path: Path) -> None:
    def reset(peer: Peer) -> None:
        peer.send(SSE_HEAD)
        sleep_s(0.2)  # a reset drops what the client has not read yet
        peer.reset()

    with scripted_server(reset) as server:
        capture = only(list(drive(make_plan(tmp_path / "spool", server.port, 1), RunControl()).captures()))
    assert (capture.ended, capture.body) == ("reset", SSE_HEAD)
    assert "reset" in capture.error


def test_closed_before_any_answer(tmp_path: Path) -> None:
    def hang_up(peer: Peer) -> None:
        raise EndConnection

    with scripted_server(hang_up) as server:
        capture = only(list(drive(make_plan(tmp_path / "spool", server.port, 1), RunControl()).captures()))
    assert (capture.ended, capture.body, capture.resends) == ("eof", b"", 0)
    assert capture.sent_ns > 0


def test_not_answered_in_time(tmp_path: Path) -> None:
    def stall(peer: Peer) -> None:
        peer.send(SSE_HEAD + CHUNK)
        peer.wait_for_close()

    with scripted_server(stall) as server:
        plan = make_plan(tmp_path / "spool", server.port, 3, request_timeout_s=1.5)
        captures = list(drive(plan, RunControl()).captures())
        server.close()
        seen = server.seen
    assert {(capture.ended, capture.body) for capture in captures} == {("timeout", SSE_HEAD + CHUNK)}
    assert {capture.error for capture in captures} == {"no complete response within 1.5 s"}
    # Counted from the reading of the clock before the send; the kernel's stamp of it may come later.
    assert all((capture.ended_ns - capture.scheduled_ns) / 1e9 >= 1.5 for capture in captures)
    assert len(seen.closed_ns) == 3


def test_a_timeout_frees_its_slot(tmp_path: Path) -> None:
    def stall_first(peer: Peer) -> None:
        if len(peer.server.seen.requests) == 1:
            peer.wait_for_close()
        else:
            peer.stream(1)

    with scripted_server(stall_first) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 3, 1, request_timeout_s=1.5)
        captures = list(drive(plan, RunControl()).captures())
    assert [capture.ended for capture in captures] == ["timeout", "complete", "complete"]


def test_not_http(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.send(b"SSH-2.0-OpenSSH_9.6\r\n")) as server:
        capture = only(list(drive(make_plan(tmp_path / "spool", server.port, 1), RunControl()).captures()))
    assert capture.ended == "malformed"
    assert "HTTP" in capture.error


def test_a_body_that_ends_with_the_connection(tmp_path: Path) -> None:
    def old_style(peer: Peer) -> None:
        peer.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        raise EndConnection

    control = RunControl()
    with scripted_server(old_style) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 2, 1, reused=True)
        captures = list(drive(plan, control).captures())
    assert [capture.ended for capture in captures] == ["eof", "eof"]
    assert all(capture.body.endswith(b"data: 1\n\n") for capture in captures)
    assert control.progress is not None
    assert control.progress.failed == 0


def test_a_large_request_to_a_slow_reader(tmp_path: Path) -> None:
    body = bytes(range(256)) * 40_000

    with scripted_server(lambda peer: peer.stream(1)) as server:
        plan = make_plan(tmp_path / "spool", server.port, 2, body=body)
        captures = list(drive(plan, RunControl()).captures())
    assert [capture.ended for capture in captures] == ["complete", "complete"]
    assert {request.partition(b"\r\n\r\n")[2] for request in server.seen.requests} == {body}


def test_an_answer_before_the_request_is_out(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        plan = make_plan(tmp_path / "spool", listener.getsockname()[1], 1, body=bytes(10_000_000))
        accepted: list[socket.socket] = []

        def refuse() -> None:
            sock, _ = listener.accept()
            accepted.append(sock)
            sock.recv(1000)
            sock.sendall(refusal)

        thread = Thread(target=refuse)
        thread.start()
        capture = only(list(drive(plan, RunControl()).captures()))
        thread.join()
        accepted[0].close()
    assert (capture.ended, capture.body) == ("complete", refusal)


def test_a_response_longer_than_what_is_held_in_memory(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4_000
    response = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content

    with scripted_server(lambda peer: peer.send(response)) as server:
        captures = list(drive(make_plan(tmp_path / "spool", server.port, 3), RunControl()).captures())
    assert {capture.ended for capture in captures} == {"complete"}
    assert {capture.body for capture in captures} == {response}
    assert all(sum(capture.read_bytes) == len(response) for capture in captures)
