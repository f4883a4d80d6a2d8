"""One, two or four load processes: the same records, one control, one end."""

from __future__ import annotations

import os
import signal
from array import array
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from bench_runner.errors import LoadFailed
from bench_runner.load.contract import LoadOutcome, LoadPlan, Progress, RunControl
from bench_runner.load.fleet import drive_fleet
from engines.clock import monotonic_ns, sleep_s
from engines.contract import Capture
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import CHUNK, LAST_CHUNK, SSE_HEAD, Peer, ScriptedServer, scripted_server
from tests.integration.load.test_stopping import HELD_UP_NS, SETTLE_S

REQUESTS = 24
SPREAD = array("q", [k * 7_000_000 for k in range(REQUESTS)])


def answer(peer: Peer) -> None:
    """Refused, whole or streamed, by the number of the request."""
    match peer.index % 4:
        case 0:
            peer.send(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}")
        case 1:
            peer.send(SSE_HEAD + CHUNK + LAST_CHUNK)
        case _:
            peer.stream(peer.index % 3 + 1, gap_s=0.002)


def described(captures: list[Capture], start_ns: int) -> list[dict[str, Any]]:
    """What does not depend on the moment or on the process."""
    return [
        {
            "index": capture.index,
            "due": capture.scheduled_ns - start_ns,
            "body": capture.body,
            "ended": capture.ended,
            "resends": capture.resends,
            "fresh": capture.fresh_connection,
            "clock": capture.sent_clock,
            "stamped": all(capture.read_kernel_ns),
            "error": capture.error,
        }
        for capture in captures
    ]


def plan_of(shape: str, spool: Path, port: int, processes: int) -> LoadPlan:
    match shape:
        case "burst":
            plan = make_plan(spool, port, REQUESTS)
        case "spread":
            plan = make_plan(spool, port, REQUESTS, offsets_ns=SPREAD)
        case "capped":
            plan = make_plan(spool, port, REQUESTS, offsets_ns=SPREAD, concurrency=8)
        case _:
            plan = closed_loop(spool, port, REQUESTS, 8)
    return replace(plan, processes=processes)


def drive_shape(shape: str, spool: Path, processes: int) -> tuple[LoadOutcome, list[Capture], ScriptedServer]:
    with scripted_server(answer) as server:
        outcome = drive_fleet(plan_of(shape, spool, server.port, processes), RunControl())
        return outcome, list(outcome.captures()), server


@pytest.mark.parametrize("shape", ["burst", "spread", "capped", "closed"])
def test_records_do_not_tell_how_many_there_were(tmp_path: Path, shape: str) -> None:
    seen = []
    for processes in (1, 2, 4):
        outcome, captures, server = drive_shape(shape, tmp_path / str(processes), processes)
        assert (outcome.ended, outcome.processes) == ("complete", processes)
        assert outcome.connections_opened == len(server.seen.accepted_ns) >= REQUESTS
        assert Counter(request.split(b" ")[1] for request in server.seen.requests) == Counter(
            b"/%d" % k for k in range(REQUESTS)
        )
        assert {capture.process for capture in captures} == set(range(processes))
        assert all(capture.scheduled_ns <= capture.sent_ns < capture.ended_ns for capture in captures)
        facts = described(captures, outcome.window_start_ns)
        if shape == "closed":
            for fact in facts:
                del fact["due"]  # that follows the answers
        seen.append(facts)
    assert seen[0] == seen[1] == seen[2]


def test_all_begin_at_one_instant(tmp_path: Path) -> None:
    outcome, captures, _ = drive_shape("burst", tmp_path / "spool", 4)
    assert {capture.scheduled_ns for capture in captures} == {outcome.window_start_ns}
    assert [capture.process for capture in captures] == [k % 4 for k in range(REQUESTS)]


def levels(captures: list[Capture]) -> list[int]:
    events = [(c.sent_ns, 1) for c in captures] + [(c.ended_ns, -1) for c in captures]
    level, seen = 0, []
    for _, step in sorted(events):
        level += step
        seen.append(level)
    return seen


def test_a_closed_loop_stays_one(tmp_path: Path) -> None:
    # Every third answer takes ten times as long: shares dealt beforehand would leave one process without work.
    def script(peer: Peer) -> None:
        peer.stream(1, gap_s=0.1 if peer.index % 3 == 0 else 0.01)

    with scripted_server(script) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 60, 6, processes=3)
        outcome = drive_fleet(plan, RunControl())
        captures = list(outcome.captures())
    assert {capture.ended for capture in captures} == {"complete"}
    assert max(levels(captures)) == server.seen.most_in_flight == 6
    # A slot goes on whenever anything is left, in the order of the plan.
    by_process = [[c for c in captures if c.process == process] for process in range(3)]
    assert all(max(levels(mine)) == 2 for mine in by_process)
    last_sent_ns = max(capture.sent_ns for capture in captures)
    assert all(max(c.ended_ns for c in mine) + 1_000_000_000 > last_sent_ns for mine in by_process)


def test_progress_is_of_all_together(tmp_path: Path) -> None:
    control = RunControl()
    response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    with scripted_server(lambda peer: peer.send(response)) as server:
        drive_fleet(make_plan(tmp_path / "spool", server.port, 10, processes=3), control)
    assert control.progress == Progress(sent=10, finished=10, failed=0, received_bytes=10 * len(response))


def stall(peer: Peer) -> None:
    peer.send(SSE_HEAD + CHUNK)
    peer.wait_for_close()


def when_all_are_stalled(server: ScriptedServer, requests: int, act: Any) -> Timer:
    def wait_and_act() -> None:
        while len(server.seen.requests) < requests:
            sleep_s(0.01)
        sleep_s(SETTLE_S)
        act()

    timer = Timer(0, wait_and_act)
    timer.start()
    return timer


def test_cancel_reaches_all(tmp_path: Path) -> None:
    control = RunControl()
    with scripted_server(stall) as server:
        timer = when_all_are_stalled(server, 6, control.cancel)
        outcome = drive_fleet(closed_loop(tmp_path / "spool", server.port, 9, 6, processes=3), control)
        timer.join()
        captures = list(outcome.captures())
    assert outcome.ended == "cancelled"
    assert {capture.ended for capture in captures} == {"cancelled"}
    assert [capture.body for capture in captures] == [SSE_HEAD + CHUNK] * 6 + [b""] * 3
    assert len(server.seen.requests) == 6


def test_cancelled_before_it_began(tmp_path: Path) -> None:
    control = RunControl()
    control.cancel()
    with scripted_server(stall) as server:
        outcome = drive_fleet(make_plan(tmp_path / "spool", server.port, 4, processes=2), control)
    assert outcome.ended == "cancelled"
    assert server.seen.requests == []


def test_a_lapsed_lease_stops_all(tmp_path: Path) -> None:
    control = RunControl()

    def lapse() -> None:
        control.deadline_ns = monotonic_ns() + 200_000_000

    with scripted_server(lambda peer: peer.stream(1, gap_s=0.01)) as server:
        timer = when_all_are_stalled(server, 6, lapse)
        outcome = drive_fleet(closed_loop(tmp_path / "spool", server.port, 100_000, 6, processes=2), control)
        timer.join()
        server.close()
        sent = [capture.sent_ns for capture in outcome.captures() if capture.sent_ns]
    assert outcome.ended == "lapsed"
    assert control.deadline_ns is not None
    assert max(sent) < control.deadline_ns + HELD_UP_NS
    assert len(server.seen.closed_ns) == len(server.seen.accepted_ns)


def processes_of(spool: Path) -> dict[int, str]:
    """Load processes at work in `spool`: folder name by pid."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for argument in command:
            if argument.startswith(os.fsencode(spool) + b"/process-"):
                found[int(entry.name)] = argument.rpartition(b"/")[2].decode()
    return found


def test_one_that_dies_ends_all(tmp_path: Path) -> None:
    spool = tmp_path / "spool"

    def kill_one() -> None:
        (pid,) = (pid for pid, name in processes_of(spool).items() if name == "process-1")
        os.kill(pid, signal.SIGKILL)

    with scripted_server(stall) as server:
        timer = when_all_are_stalled(server, 6, kill_one)
        with pytest.raises(LoadFailed, match=r"load process 1 of 3 died \(exit code -9\)"):
            drive_fleet(make_plan(spool, server.port, 6, processes=3), RunControl())
        timer.join()
        assert processes_of(spool) == {}


def test_one_that_cannot_work_says_why(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    (spool / "process-1").mkdir(parents=True)
    (spool / "process-1" / "captures.bin").symlink_to("/dev/full")
    with (
        scripted_server(lambda peer: peer.stream(1)) as server,
        pytest.raises(LoadFailed, match="disk is full: free some space"),
    ):
        drive_fleet(make_plan(spool, server.port, 4, processes=2), RunControl())
    assert processes_of(spool) == {}


def test_a_process_without_a_slot_is_in_nobodys_way(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.01)) as server:
        outcome = drive_fleet(closed_loop(tmp_path / "spool", server.port, 5, 1, processes=3), RunControl())
        captures = list(outcome.captures())
    assert outcome.ended == "complete"
    assert [capture.process for capture in captures] == [0] * 5
    assert all(after.sent_ns > before.ended_ns for before, after in pairwise(captures))


def test_an_end_of_sending_holds_for_all(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.01)) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 50_000, 4, processes=2, send_until_ns=150_000_000)
        outcome = drive_fleet(plan, RunControl())
        captures = list(outcome.captures())
    sent = [capture for capture in captures if capture.sent_ns]
    assert outcome.ended == "complete"
    assert {capture.ended for capture in sent} == {"complete"}
    assert all(capture.scheduled_ns <= outcome.window_start_ns + 150_000_000 for capture in sent)
    assert len(server.seen.requests) == len(sent) < 50_000
