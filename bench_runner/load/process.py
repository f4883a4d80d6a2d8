"""Starts a load process, steers it while it runs, and reads back what it kept.

The load itself is in `child`; the two share a folder (plan, spool, counters) and a socketpair.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import select
import socket
import subprocess
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from bench_runner.errors import LoadFailed
from bench_runner.load.captures import read_captures
from bench_runner.load.channel import (
    CANCEL,
    FAILURE,
    OUTCOME,
    WINDOW_ENDINGS,
    Counters,
    Outcome,
    pack_deadline,
    unpack_outcome,
)
from bench_runner.load.contract import LoadOutcome, LoadPlan, Progress, RunControl
from bench_runner.load.planfile import PLAN_FILE, write_plan
from bench_runner.load.schedule import OPEN_AHEAD_NS
from engines.clock import monotonic_ns
from engines.contract import Capture

#: files a load process has open beside its connections
SPARE_FILES = 32
#: cancel and deadlines are passed on this often
POLL_MS = 50
SAMPLE_NS = 1_000_000_000
#: a load process that ignores its own run timeout for this long is killed
PATIENCE_S = 30.0

_LOG_FILE = "load.log"
_PACKAGES = Path(__file__).resolve().parents[2]


def drive(plan: LoadPlan, control: RunControl) -> LoadOutcome:
    """Carries out `plan` in a process of its own and returns once its window is over.

    The spool folder is the caller's: it must outlive the outcome's captures.

    Raises:
        LoadFailed: the load process could not be started, died, or could not do its work.
    """
    check_plan(plan)
    try:
        write_plan(plan)
        counters = Counters(plan.spool, create=True)
        message, exit_code = _run_child(plan, control, counters)
    except OSError as error:
        raise LoadFailed(f"the spool {plan.spool} cannot be used: {error.strerror or error}") from error
    finally:
        (plan.spool / PLAN_FILE).unlink(missing_ok=True)
    control.progress = Progress(*counters.load())
    if message[:1] == OUTCOME:
        return _outcome(plan, unpack_outcome(message))
    if message[:1] == FAILURE:
        raise LoadFailed(message[1:].decode(errors="replace"))
    raise LoadFailed(f"the load process died (exit code {exit_code}): {_log_tail(plan.spool)}")


def _run_child(plan: LoadPlan, control: RunControl, counters: Counters) -> tuple[bytes, int]:
    """Starts a load process and sees it to its end: its last message (b"": none) and exit code."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, (plan.spool / _LOG_FILE).open("wb") as log:
        with theirs:
            child = _start(plan, theirs, log.fileno())
        try:
            message = _attend(ours, control, counters, _patience_ns(plan))
        finally:
            ours.close()  # end-of-file: whatever it is doing, it stops
            _end(child)
    return message, child.returncode


def check_plan(plan: LoadPlan) -> None:
    """Refuses what cannot be carried out, before anything is started.

    Raises:
        LoadFailed: nothing to send, offsets that do not fit, or more connections than files may be open.
    """
    if not plan.requests:
        raise LoadFailed("the plan has no request", field="workload.requests")
    if plan.offsets_ns is None and plan.concurrency is None:
        raise LoadFailed("a closed loop needs its concurrency", field="workload.arrival.concurrency")
    if plan.offsets_ns is not None:
        offsets = plan.offsets_ns
        if len(offsets) != len(plan.requests) or any(b < a for a, b in itertools.pairwise(offsets)):
            raise LoadFailed("offsets must be as many as requests and must not fall", field="workload.arrival")
    if plan.think_ns is not None and (plan.offsets_ns is not None or len(plan.think_ns) != len(plan.requests)):
        raise LoadFailed(
            "think times belong to a closed loop, and must be as many as its requests", field="workload.arrival"
        )
    if plan.ca_file is not None:
        from bench_runner.load.tls import client_context

        try:
            client_context(str(plan.ca_file))
        except OSError as error:  # ssl.SSLError is one
            raise LoadFailed(
                f"{plan.ca_file} is not a file of certificates that can be read: {error}", field="target.ca_file"
            ) from error
    at_once = len(plan.requests) if plan.offsets_ns is None else bisect_right(plan.offsets_ns, OPEN_AHEAD_NS)
    most = min(at_once, plan.concurrency or at_once)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and most + SPARE_FILES > hard:
        raise LoadFailed(
            f"{most} connections need {most + SPARE_FILES} open files, but no more than {hard} are allowed "
            "(RLIMIT_NOFILE, hard limit): raise it (`ulimit -Hn`, LimitNOFILE=) or lower the load",
            field="workload.requests" if plan.concurrency is None else "workload.arrival.concurrency",
        )


def _start(plan: LoadPlan, channel: socket.socket, log_fd: int) -> subprocess.Popen[bytes]:
    """Starts the load process. Not isolated by -I or -E: it finds these packages by PYTHONPATH, and no others."""
    command = [sys.executable, "-S", "-P", "-m", "bench_runner.load.child", str(plan.spool), str(channel.fileno())]
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(_PACKAGES)},
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(channel.fileno(),),
            start_new_session=True,
        )
    except OSError as error:
        raise LoadFailed(f"the load process could not be started: {error}") from error


def _attend(channel: socket.socket, control: RunControl, counters: Counters, give_up_ns: int) -> bytes:
    """Passes on what the outside wants and watches the counters; the load process's last message, or b""."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    told_cancel, told_deadline_ns, sample_ns = False, None, 0
    # A message that cannot be sent finds a process that is gone; reading says so too, and says why.
    while True:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            deadline_ns = control.deadline_ns
            if deadline_ns != told_deadline_ns:
                channel.send(pack_deadline(deadline_ns))
                told_deadline_ns = deadline_ns
            if control.cancelled and not told_cancel:
                channel.send(CANCEL)
                told_cancel = True
        if poll.poll(POLL_MS):
            try:
                return channel.recv(65_536)
            except ConnectionResetError:
                return b""
        now = monotonic_ns()
        if now >= sample_ns:
            sample_ns = now + SAMPLE_NS
            control.progress = Progress(*counters.load())
        if now >= give_up_ns:
            raise LoadFailed("the load process did not stop at the run's time limit and was killed")


def _patience_ns(plan: LoadPlan) -> int:
    # Once for opening connections, once for the window.
    return monotonic_ns() + round((2 * plan.run_timeout_s + PATIENCE_S) * 1e9)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Waits for a process whose channel is closed; kills it where it does not mind."""
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _log_tail(spool: Path) -> str:
    tail = (spool / _LOG_FILE).read_bytes()[-2000:].decode(errors="replace").strip()
    return tail or "it wrote nothing"


def _outcome(plan: LoadPlan, outcome: Outcome) -> LoadOutcome:
    spool, offsets = plan.spool, plan.offsets_ns
    indexes = array("q", (request.index for request in plan.requests))

    def captures() -> Iterator[Capture]:
        return read_captures(spool, indexes, offsets, outcome)

    return LoadOutcome(
        captures=captures,
        ended=WINDOW_ENDINGS[outcome.ended],
        window_start_ns=outcome.start_ns,
        window_end_ns=outcome.end_ns,
        cpu_s=outcome.cpu_ns / 1e9,
        wall_s=(outcome.end_ns - outcome.start_ns) / 1e9,
        max_lag_s=None if outcome.max_lag_ns < 0 else outcome.max_lag_ns / 1e9,
        clock_stepped=bool(outcome.clock_stepped),
        connections_opened=outcome.connections_opened,
    )
