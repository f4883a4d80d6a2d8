"""Starts load processes, steers them while they run, and hears how they went.

The load itself is in `child`; the two sides share a plan file that has no name, a folder for each process (spool,
counters, log) and a socketpair.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench_runner.errors import LoadFailed
from bench_runner.load.channel import (
    CANCEL,
    FAILURE,
    OUTCOME,
    READY,
    Counters,
    Outcome,
    pack_deadline,
    pack_start,
    unpack_outcome,
)
from bench_runner.load.check import check_plan
from bench_runner.load.connection import SO_TIMESTAMPNS
from bench_runner.load.contract import LoadOutcome, LoadPlan, Progress, RunControl
from bench_runner.load.outcome import join_outcomes
from bench_runner.load.planfile import write_plan
from bench_runner.load.positions import open_shared
from engines.clock import monotonic_ns

#: from the last process being ready to the window's first instant: the message of it must be there by then
LEAD_IN_NS = 20_000_000
#: and for each further process
LEAD_IN_EACH_NS = 10_000_000
#: cancel and deadlines are passed on this often
POLL_MS = 50
SAMPLE_NS = 1_000_000_000
#: load processes that ignore their own run timeout for this long are killed
PATIENCE_S = 30.0

_LOG_FILE = "load.log"
_PACKAGES = Path(__file__).resolve().parents[2]


def folder_of(spool: Path, rank: int) -> Path:
    """Where process `rank` keeps what it measured."""
    return spool / f"process-{rank}"


class LoadProcess:
    """One of `size` load processes, from its start to its last message."""

    def __init__(self, spool: Path, plan_fd: int, positions_fd: int, rank: int, size: int) -> None:
        self.name = "the load process" if size == 1 else f"load process {rank} of {size}"
        self._folder = folder_of(spool, rank)
        self._folder.mkdir(exist_ok=True)
        self.counters = Counters(self._folder, create=True)
        self.ready = False
        #: its last message, b"" where it died without one; `None`: it still runs
        self.message: bytes | None = None
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (self._folder / _LOG_FILE).open("wb") as log:
            fds = [theirs.fileno(), plan_fd, positions_fd]
            # Not isolated by -I or -E: it finds these packages by PYTHONPATH, and no others.
            command = [sys.executable, "-S", "-P", "-m", "bench_runner.load.child", str(self._folder)]
            try:
                self._child = subprocess.Popen(
                    [*command, *map(str, [*fds, rank, size])],
                    env={**os.environ, "PYTHONPATH": str(_PACKAGES)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[fd for fd in fds if fd >= 0],
                    start_new_session=True,
                )
            except OSError as error:
                self.channel.close()
                raise LoadFailed(f"{self.name} could not be started: {error}") from error

    def tell(self, message: bytes) -> None:
        """Sends it a message. One that is gone is not told; its end-of-file says so, and why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(message)

    def hear(self) -> None:
        """Takes a message that waits: it is ready, or it is over."""
        try:
            message = self.channel.recv(65_536)
        except ConnectionResetError:
            # It ended with a message of ours unread. The error comes first, what it said before waits behind it.
            message = self.channel.recv(65_536)
        if message == READY:
            self.ready = True
        else:
            self.message = message

    def outcome(self) -> Outcome:
        """What it said of its window.

        Raises:
            LoadFailed: it said why there is none, or died.
        """
        message = self.message or b""
        if message[:1] == OUTCOME:
            return unpack_outcome(message)
        if message[:1] == FAILURE:
            raise LoadFailed(message[1:].decode(errors="replace"))
        self.end()
        tail = (self._folder / _LOG_FILE).read_bytes()[-2000:].decode(errors="replace").strip()
        raise LoadFailed(f"{self.name} died (exit code {self._child.returncode}): {tail or 'it wrote nothing'}")

    def end(self) -> None:
        """Closes its channel, which stops it whatever it is doing, and waits; kills it where it does not mind."""
        self.channel.close()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def carry_out(plan: LoadPlan, size: int, control: RunControl) -> list[Outcome]:
    """Carries out `plan` in `size` processes that begin at one instant; the outcome of each once all are over.

    Raises:
        LoadFailed: one could not be started, died, or could not do its work. None is left running then.
    """
    try:
        with _stamps_on(), _shared_files(plan, size) as (plan_fd, positions_fd), _processes() as processes:
            for rank in range(size):
                processes.append(LoadProcess(plan.spool, plan_fd, positions_fd, rank, size))
            if (failed := _attend(processes, control, _patience_ns(plan))) is not None:
                failed.outcome()
            outcomes = [process.outcome() for process in processes]
    except OSError as error:
        raise LoadFailed(f"the spool {plan.spool} cannot be used: {error.strerror or error}") from error
    _sample(processes, control)
    return outcomes


@contextmanager
def _stamps_on() -> Iterator[None]:
    """Has the kernel stamp what comes. It begins some while after the first socket of the host asks for it, and ends
    with the last: this one asks before load processes start, so that theirs have stamps from their first byte on.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        yield


@contextmanager
def _shared_files(plan: LoadPlan, size: int) -> Iterator[tuple[int, int]]:
    """The plan and its positions, open and without a name: credentials do not outlive their use.

    One process counts for itself: its positions are -1.
    """
    with ExitStack() as opened:
        path = write_plan(plan)
        try:
            plan_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            path.unlink(missing_ok=True)
        opened.callback(os.close, plan_fd)
        positions_fd = -1
        if size > 1:
            positions_fd = open_shared(plan.spool, len(plan.requests))
            opened.callback(os.close, positions_fd)
        yield plan_fd, positions_fd


@contextmanager
def _processes() -> Iterator[list[LoadProcess]]:
    """A list of load processes, none of which outlives the block."""
    processes: list[LoadProcess] = []
    try:
        yield processes
    finally:
        for process in processes:
            process.channel.close()  # end-of-file: whatever they are doing, they all stop
        for process in processes:
            process.end()


def _attend(processes: Sequence[LoadProcess], control: RunControl, give_up_ns: int) -> LoadProcess | None:
    """Starts the window once all are ready and passes on what the outside wants until all are over, or one failed.

    Returns:
        The one that failed, if one did; the others may still be at work.
    """
    poll = select.poll()
    by_fd = {process.channel.fileno(): process for process in processes}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    started, told_cancel, told_deadline_ns, sample_ns = False, False, None, 0
    while by_fd:
        deadline_ns = control.deadline_ns
        if deadline_ns != told_deadline_ns:
            _tell(by_fd, pack_deadline(deadline_ns))
            told_deadline_ns = deadline_ns
        if control.cancelled and not told_cancel:
            _tell(by_fd, CANCEL)
            told_cancel = True
        for fd, _ in poll.poll(POLL_MS):
            process = by_fd[fd]
            process.hear()
            if process.message is not None:
                poll.unregister(by_fd.pop(fd).channel)
                if process.message[:1] != OUTCOME:
                    return process
        if not started and all(process.ready for process in by_fd.values()):
            _tell(by_fd, pack_start(monotonic_ns() + LEAD_IN_NS + (len(by_fd) - 1) * LEAD_IN_EACH_NS))
            started = True
        now = monotonic_ns()
        if now >= sample_ns:
            sample_ns = now + SAMPLE_NS
            _sample(processes, control)
        if now >= give_up_ns:
            raise LoadFailed("the load did not stop at the run's time limit and was killed")
    return None


def _tell(processes: dict[int, LoadProcess], message: bytes) -> None:
    for process in processes.values():
        process.tell(message)


def _sample(processes: Sequence[LoadProcess], control: RunControl) -> None:
    counts = [process.counters.load() for process in processes]
    control.progress = Progress(*map(sum, zip(*counts, strict=True)))


def _patience_ns(plan: LoadPlan) -> int:
    # Once for opening connections, once for the window.
    return monotonic_ns() + round((2 * plan.run_timeout_s + PATIENCE_S) * 1e9)


def drive(plan: LoadPlan, control: RunControl) -> LoadOutcome:
    """Carries out `plan` in one process of its own and returns once its window is over.

    The spool folder is the caller's: it must outlive the outcome's captures.

    Raises:
        LoadFailed: the load process could not be started, died, or could not do its work.
    """
    check_plan(plan)
    return join_outcomes(plan, carry_out(plan, 1, control), [folder_of(plan.spool, 0)])
