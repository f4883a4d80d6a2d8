"""A closed loop: a fixed number in flight, over fresh and over reused connections."""

from __future__ import annotations

from array import array
from itertools import pairwise
from pathlib import Path

from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import EndConnection, Peer, scripted_server


def test_never_more_than_the_concurrency_are_in_flight(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(2, gap_s=0.005)) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 40, 4), RunControl())
        captures = list(outcome.captures())
    assert {capture.ended for capture in captures} == {"complete"}
    assert server.seen.most_in_flight == 4
    events = [(c.sent_ns, 1) for c in captures] + [(c.ended_ns, -1) for c in captures]
    level = most = 0
    for _, step in sorted(events):
        level += step
        most = max(most, level)
    assert most == 4


def test_fresh_means_a_connection_for_each_request(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1)) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 12, 3), RunControl())
        captures = list(outcome.captures())
    assert len(server.seen.accepted_ns) == outcome.connections_opened == 12
    assert all(capture.fresh_connection and capture.connect_s > 0 for capture in captures)


def test_a_request_is_due_when_its_slot_is_free(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.02)) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 4, 1), RunControl())
        captures = list(outcome.captures())
    assert captures[0].scheduled_ns == outcome.window_start_ns
    for before, after in pairwise(captures):
        assert after.scheduled_ns == before.ended_ns
        # Opening the next connection is the client's own business, and shows as its own figure.
        assert after.sent_ns - after.scheduled_ns >= after.connect_s * 1e9


def test_reused_connections_are_opened_once(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1)) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 30, 3, reused=True), RunControl())
        captures = list(outcome.captures())
    assert {capture.ended for capture in captures} == {"complete"}
    assert len(server.seen.accepted_ns) == outcome.connections_opened == 3
    assert sum(capture.fresh_connection for capture in captures) == 3
    assert all((capture.connect_s > 0) == capture.fresh_connection for capture in captures)
    assert len({capture.body for capture in captures}) == 1


def test_a_server_that_closes_after_each_answer_is_met_with_new_connections(tmp_path: Path) -> None:
    def answer_once(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
        raise EndConnection

    with scripted_server(answer_once) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 6, 2, reused=True), RunControl())
        captures = list(outcome.captures())
    assert {capture.ended for capture in captures} == {"complete"}
    assert sum(capture.resends for capture in captures) == 0
    assert len(server.seen.accepted_ns) == 6


def test_a_stale_connection_is_replaced_once_and_counted(tmp_path: Path) -> None:
    def close_on_the_second(peer: Peer) -> None:
        if peer.requests == 2:
            raise EndConnection
        peer.stream(1)

    with scripted_server(close_on_the_second) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 6, 1, reused=True), RunControl())
        captures = list(outcome.captures())
    assert {capture.ended for capture in captures} == {"complete"}
    # Each connection answers one request and closes on the next, which is sent again on a new connection.
    assert [capture.resends for capture in captures] == [0, 1, 1, 1, 1, 1]
    assert all(capture.fresh_connection for capture in captures)
    assert len(server.seen.requests) == 11


def test_a_request_is_sent_again_only_once(tmp_path: Path) -> None:
    answers = iter([True, False, False, True])

    def script(peer: Peer) -> None:
        if not next(answers):
            raise EndConnection
        peer.stream(1)

    with scripted_server(script) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 3, 1, reused=True), RunControl())
        captures = list(outcome.captures())
    assert [(capture.ended, capture.resends) for capture in captures] == [("complete", 0), ("eof", 1), ("complete", 0)]
    assert captures[1].body == b""


def test_the_first_request_of_a_connection_is_never_sent_again(tmp_path: Path) -> None:
    def hang_up(peer: Peer) -> None:
        raise EndConnection

    with scripted_server(hang_up) as server:
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 3, 1, reused=True), RunControl())
        captures = list(outcome.captures())
    assert [(capture.ended, capture.resends) for capture in captures] == [("eof", 0)] * 3
    assert len(server.seen.requests) == 3


def test_an_idle_connection_that_the_server_closed_is_not_used(tmp_path: Path) -> None:
    def answer_and_close(peer: Peer) -> None:
        peer.stream(1)
        raise EndConnection

    offsets = array("q", [0, 300_000_000])
    with scripted_server(answer_and_close) as server:
        plan = make_plan(tmp_path / "spool", server.port, 2, offsets_ns=offsets, concurrency=1, reused=True)
        captures = list(drive(plan, RunControl()).captures())
    assert [(capture.ended, capture.resends) for capture in captures] == [("complete", 0)] * 2
    assert len(server.seen.accepted_ns) == 2
