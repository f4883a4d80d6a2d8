"""Three ways to stop a load from outside, and one from inside; what was measured is kept, and nothing more is sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from engines.clock import monotonic_ns, sleep_s
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import CHUNK, SSE_HEAD, Peer, ScriptedServer, scripted_server

#: What has been sent is read by then, on a busy machine too.
SETTLE_S = 0.5
#: Of a send after the deadline, that the clock was looked at before it: the process may have lost its core in between.
HELD_UP_NS = 1_000_000_000


def answer_two_then_stall(peer: Peer) -> None:
    if len(peer.server.seen.requests) <= 2:
        peer.stream(1)
    else:
        peer.send(SSE_HEAD + CHUNK)
        peer.wait_for_close()


def wait_until_stalled(server: ScriptedServer) -> None:
    """Two are answered and one hangs."""
    while len(server.seen.requests) < 3:
        sleep_s(0.01)
    sleep_s(SETTLE_S)


def assert_two_kept_one_stopped(outcome_captures: list[tuple[str, bytes]]) -> None:
    endings = [ended for ended, _ in outcome_captures]
    assert endings == ["complete", "complete", "cancelled", "cancelled"]
    assert outcome_captures[2][1] == SSE_HEAD + CHUNK
    assert outcome_captures[3][1] == b""


def test_cancel_keeps_what_was_measured(tmp_path: Path) -> None:
    control = RunControl()
    with scripted_server(answer_two_then_stall) as server:

        def cancel() -> None:
            wait_until_stalled(server)
            control.cancel()

        timer = Timer(0, cancel)
        timer.start()
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 4, 1), control)
        timer.join()
        captures = list(outcome.captures())
    assert outcome.ended == "cancelled"
    assert_two_kept_one_stopped([(capture.ended, capture.body) for capture in captures])
    assert captures[2].sent_ns > 0
    assert captures[3].sent_ns == 0
    assert len(server.seen.requests) == 3


def test_cancelled_before_it_began_sends_nothing(tmp_path: Path) -> None:
    control = RunControl()
    control.cancel()
    with scripted_server(lambda peer: peer.stream(1)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 3), control)
        captures = list(outcome.captures())
    assert outcome.ended == "cancelled"
    assert [(capture.ended, capture.sent_ns) for capture in captures] == [("cancelled", 0)] * 3
    assert server.seen.requests == []


def test_the_run_timeout_ends_the_window(tmp_path: Path) -> None:
    with scripted_server(answer_two_then_stall) as server:
        plan = closed_loop(tmp_path / "spool", server.port, 4, 1, run_timeout_s=2.0)
        outcome = drive(plan, RunControl())
        captures = list(outcome.captures())
    assert outcome.ended == "timeout"
    assert outcome.wall_s >= 2.0
    assert_two_kept_one_stopped([(capture.ended, capture.body) for capture in captures])


def push_deadlines(control: RunControl, server: ScriptedServer, *from_now_s: float) -> Timer:
    """Once the load is under way, pushes one deadline after the other, well before each of them passes."""

    def push() -> None:
        while not server.seen.requests:
            sleep_s(0.01)
        for after_s in from_now_s:
            control.deadline_ns = monotonic_ns() + round(after_s * 1e9)
            sleep_s(0.2)

    timer = Timer(0, push)
    timer.start()
    return timer


def test_a_lapsed_deadline_stops_the_load(tmp_path: Path) -> None:
    control = RunControl()
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.01)) as server:
        timer = push_deadlines(control, server, 0.4)
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 100_000, 4), control)
        timer.join()
        server.close()
        seen = server.seen
    assert outcome.ended == "lapsed"
    assert control.deadline_ns is not None
    assert outcome.window_end_ns >= control.deadline_ns
    sent = [capture.sent_ns for capture in outcome.captures() if capture.sent_ns]
    assert sent
    # The clock is looked at before each send; the kernel's stamp of the last one may be a moment later.
    assert max(sent) < control.deadline_ns + HELD_UP_NS
    assert len(seen.closed_ns) == len(seen.accepted_ns)


def test_a_deadline_pushed_on_is_the_one_that_counts(tmp_path: Path) -> None:
    control = RunControl()
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.01)) as server:
        timer = push_deadlines(control, server, 30.0, 1.5, 2.0)
        outcome = drive(closed_loop(tmp_path / "spool", server.port, 100_000, 2), control)
        timer.join()
    assert outcome.ended == "lapsed"
    assert control.deadline_ns is not None
    assert outcome.window_end_ns >= control.deadline_ns


def test_a_deadline_that_passed_before_it_began(tmp_path: Path) -> None:
    control = RunControl()
    control.deadline_ns = monotonic_ns()
    with scripted_server(lambda peer: peer.stream(1)) as server:
        outcome = drive(make_plan(tmp_path / "spool", server.port, 2), control)
    assert outcome.ended == "lapsed"
    assert server.seen.requests == []


WORKER = """
import sys
from pathlib import Path
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import closed_loop
drive(closed_loop(Path(sys.argv[1]), int(sys.argv[2]), 100_000, 2), RunControl())
"""


def test_a_killed_worker_takes_its_load_with_it(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    with scripted_server(lambda peer: peer.stream(1, gap_s=0.02)) as server:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "spool"), str(server.port)],
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        while len(server.seen.requests) < 4:
            assert worker.poll() is None
            sleep_s(0.01)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        while server.seen.in_flight or len(server.seen.closed_ns) < len(server.seen.accepted_ns):
            sleep_s(0.01)  # the load process is gone once all its connections are
        sent = len(server.seen.requests)
        sleep_s(0.3)
        assert len(server.seen.requests) == sent
