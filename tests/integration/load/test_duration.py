"""Think times between requests, and loads that end by the clock rather than by a count."""

from __future__ import annotations

from array import array
from itertools import pairwise
from pathlib import Path

import pytest

from bench_runner.errors import LoadFailed
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import scripted_server


@pytest.mark.parametrize("reused", [False, True])
def test_a_slot_waits_between_a_response_and_its_next_request(tmp_path: Path, reused: bool) -> None:
    think = array("q", [60_000_000, 0, 90_000_000, 10_000_000_000])
    with scripted_server(lambda peer: peer.stream(1)) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 4, 1, think_ns=think, reused=reused)
        outcome = drive(plan, RunControl())
        captures = list(outcome.captures())
    assert {capture.ended for capture in captures} == {"complete"}
    for wait_ns, (before, after) in zip(think, pairwise(captures), strict=False):
        assert after.scheduled_ns == before.ended_ns + wait_ns
        assert after.sent_ns >= after.scheduled_ns
    # Nothing comes after the last request, so nobody waits behind it.
    assert outcome.window_end_ns - captures[-1].ended_ns < 5_000_000_000


def test_a_closed_loop_stops_sending_and_drains(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(2, gap_s=0.02)) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 10_000, 3, send_until_ns=200_000_000)
        outcome = drive(plan, RunControl())
        captures = list(outcome.captures())
    assert outcome.ended == "complete"
    sent = [capture for capture in captures if capture.sent_ns]
    assert 3 <= len(sent) < 10_000
    assert len(server.seen.requests) == len(sent)
    assert {capture.ended for capture in sent} == {"complete"}
    assert [capture.index for capture in sent] == list(range(len(sent)))
    assert all(capture.scheduled_ns <= outcome.window_start_ns + 200_000_000 for capture in sent)
    assert {(capture.ended, capture.body) for capture in captures[len(sent) :]} == {("cancelled", b"")}


def test_offsets_behind_the_end_of_sending_are_left_out(tmp_path: Path) -> None:
    offsets = array("q", [0, 50_000_000, 50_000_001, 10_000_000_000])
    with scripted_server(lambda peer: peer.stream(1)) as server:
        plan = make_plan(tmp_path / "spool", server.port, 4, offsets_ns=offsets, send_until_ns=50_000_000)
        outcome = drive(plan, RunControl())
        captures = list(outcome.captures())
    assert outcome.ended == "complete"
    assert [capture.sent_ns > 0 for capture in captures] == [True, True, False, False]
    assert len(server.seen.requests) == 2


def test_a_capped_request_that_came_too_late_is_left_out(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.3)) as server:
        plan = make_plan(tmp_path / "spool", server.port, 3, concurrency=2, send_until_ns=100_000_000)
        captures = list(drive(plan, RunControl()).captures())
    assert [capture.ended for capture in captures] == ["complete", "complete", "cancelled"]


def test_think_times_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="as many as its requests"):
        drive(closed_loop(tmp_path / "spool", 1, 3, 1, think_ns=array("q", [1, 2])), RunControl())
    with pytest.raises(LoadFailed, match="belong to a closed loop"):
        drive(make_plan(tmp_path / "spool", 1, 2, think_ns=array("q", [1, 2])), RunControl())
