"""A burst: all requests at once, on connections that were open before."""

from __future__ import annotations

from array import array
from itertools import pairwise
from pathlib import Path

import pytest

from bench_runner.load.contract import Progress, RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import make_plan
from tests.integration.load.scripted import CHUNK, LAST_CHUNK, SSE_HEAD, scripted_server


def test_every_response_is_kept_byte_for_byte_in_the_order_of_the_plan(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(3)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 20), RunControl())
        captures = list(outcome.captures())
    assert outcome.ended == "complete"
    assert [capture.index for capture in captures] == list(range(20))
    assert {capture.ended for capture in captures} == {"complete"}
    assert {capture.body for capture in captures} == {SSE_HEAD + 3 * CHUNK + LAST_CHUNK}
    assert outcome.connections_opened == 20
    assert sorted(capture.local_port for capture in captures) == sorted(server.seen.ports)
    paths = {
        port: int(request[6 : request.index(b" HTTP")])
        for port, request in zip(server.seen.ports, server.seen.requests, strict=True)
    }
    assert [paths[capture.local_port] for capture in captures] == list(range(20))


def test_stamps_lie_in_the_order_things_happened(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(3, gap_s=0.02)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 5), RunControl())
        captures = list(outcome.captures())
        arrived = dict(zip(server.seen.ports, server.seen.arrived_ns, strict=True))
    assert outcome.max_lag_s is not None
    assert not outcome.clock_stepped
    assert outcome.cpu_s > 0
    assert outcome.wall_s * 1e9 == pytest.approx(outcome.window_end_ns - outcome.window_start_ns)
    for capture in captures:
        assert capture.scheduled_ns == outcome.window_start_ns
        assert capture.scheduled_ns <= capture.sent_ns <= arrived[capture.local_port]
        assert len(capture.read_user_ns) == len(capture.read_kernel_ns) == len(capture.read_bytes) >= 2
        assert sum(capture.read_bytes) == len(capture.body)
        assert all(a <= b for a, b in pairwise(capture.read_user_ns))
        # The kernel had the bytes after we asked for them and before we read them, on one clock.
        for user_ns, kernel_ns in zip(capture.read_user_ns, capture.read_kernel_ns, strict=True):
            assert capture.sent_ns < kernel_ns <= user_ns
            assert (user_ns - kernel_ns) / 1e9 <= outcome.max_lag_s
        assert capture.ended_ns == capture.read_user_ns[-1] <= outcome.window_end_ns
        assert capture.sent_clock == "kernel"
        assert capture.fresh_connection
        assert capture.connect_s > 0
        assert capture.resends == 0


def test_connections_are_open_before_their_requests_are_due(tmp_path: Path) -> None:
    offsets = array("q", [450_000_000] * 30)
    with scripted_server(lambda peer: peer.stream(1)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 30, offsets_ns=offsets), RunControl())
    assert outcome.connections_opened == len(server.seen.accepted_ns) == 30
    assert max(server.seen.accepted_ns) < min(server.seen.arrived_ns)


def test_requests_are_sent_at_their_offsets_and_never_before(tmp_path: Path) -> None:
    offsets = array("q", [0, 60_000_000, 60_000_000, 700_000_000])
    with scripted_server(lambda peer: peer.stream(1)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 4, offsets_ns=offsets), RunControl())
        captures = list(outcome.captures())
    assert [capture.scheduled_ns - outcome.window_start_ns for capture in captures] == list(offsets)
    assert all(capture.sent_ns >= capture.scheduled_ns for capture in captures)
    assert {capture.ended for capture in captures} == {"complete"}
    assert len(server.seen.accepted_ns) == 4


def test_a_cap_holds_due_requests_back_but_not_their_scheduled_moment(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.03)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 9, concurrency=3), RunControl())
        captures = list(outcome.captures())
    assert server.seen.most_in_flight == 3
    assert {capture.scheduled_ns for capture in captures} == {outcome.window_start_ns}
    assert captures[-1].sent_ns - captures[-1].scheduled_ns >= 60_000_000


def test_progress_ends_with_what_was_done(tmp_path: Path) -> None:
    refused = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"

    control = RunControl()
    with scripted_server(lambda peer: peer.send(refused)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 7), control)
    assert control.progress == Progress(sent=7, finished=7, failed=7, received_bytes=7 * len(refused))
    assert {capture.ended for capture in outcome.captures()} == {"complete"}


def test_the_plan_file_with_its_credentials_is_gone_afterwards(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1)) as server:
        drive(make_plan(tmp_path / "spool", server.port, 1), RunControl())
    assert not (tmp_path / "spool" / "plan.bin").exists()


def test_captures_can_be_read_again(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(2)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 3), RunControl())
    assert list(outcome.captures()) == list(outcome.captures())


def test_ipv6(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1), host="::1") as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 2, host="::1"), RunControl())
        captures = list(outcome.captures())
    assert [capture.ended for capture in captures] == ["complete", "complete"]
    assert {capture.local_port for capture in captures} == set(server.seen.ports)
