"""The load process: opens its plan, holds its window, says how it went.

Started as `python -m bench_runner.load.child FOLDER CHANNEL_FD PLAN_FD POSITIONS_FD RANK SIZE`. Its imports are few
on purpose: it is started for every run.
"""

from __future__ import annotations

import errno
import gc
import resource
import socket
import sys
from pathlib import Path

from bench_runner.load.channel import FAILURE, Counters, LoadBroken, WorkerGone, pack_outcome
from bench_runner.load.generator import Generator
from bench_runner.load.host import PRIORITIES, raise_priority
from bench_runner.load.planfile import Plan, open_plan
from bench_runner.load.positions import OwnPositions, SharedPositions
from bench_runner.load.schedule import OPEN_AHEAD_NS, Schedule, SlotSchedule, TimedSchedule
from bench_runner.load.spool import SpoolWriter

#: exit codes beside 0
FAILED_EXIT, ORPHANED_EXIT = 1, 3


def main(arguments: list[str]) -> int:
    """Drives one window; the exit code says whether it was one."""
    folder = Path(arguments[0])
    channel_fd, plan_fd, positions_fd, rank, size = map(int, arguments[1:])
    channel = socket.socket(fileno=channel_fd)
    try:
        plan = open_plan(plan_fd)
        schedule = make_schedule(plan, positions_fd, rank, size)
        channel.send(drive_window(folder, channel, plan, schedule, size))
    except (WorkerGone, BrokenPipeError, ConnectionResetError):
        return ORPHANED_EXIT
    except LoadBroken as error:
        return _fail(channel, str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(
                channel, f"the disk is full: free some space where the spool is ({folder}), or shorten the run"
            )
        raise
    return 0


def make_schedule(plan: Plan, positions_fd: int, rank: int, size: int) -> Schedule:
    """The part of the plan's schedule that is process `rank`'s of `size`; the parts are together the whole.

    Offsets without a cap are dealt round, for each request is sent at its own moment whatever the others do. Under a
    cap or in a closed loop which slot is free next shows only in the window, so the slots are dealt and the requests
    drawn from one counter: shares of requests would leave slots of one process idle while another has work left.
    """
    if plan.offsets_ns is not None and plan.concurrency is None:
        return TimedSchedule(plan.offsets_ns, OPEN_AHEAD_NS, plan.until_ns, rank, size)
    count = len(plan.ends)
    slots = min(plan.concurrency or count, count)
    return SlotSchedule(
        OwnPositions(count) if size == 1 else SharedPositions(positions_fd),
        slots // size + (rank < slots % size),
        OPEN_AHEAD_NS,
        offsets_ns=plan.offsets_ns,
        think_ns=plan.think_ns,
        until_ns=plan.until_ns,
    )


def drive_window(folder: Path, channel: socket.socket, plan: Plan, schedule: Schedule, size: int) -> bytes:
    """Carries out the schedule; the outcome as a message."""
    raise_file_limit()
    spool = SpoolWriter(folder, len(plan.ends))
    generator = Generator(plan, schedule, spool, channel, Counters(folder))
    # Nothing here makes cycles, and a collection in the window is a pause in every stream.
    gc.collect()
    gc.freeze()
    gc.disable()
    priority = PRIORITIES.index(raise_priority(size))
    return pack_outcome(generator.run()._replace(priority=priority))


def raise_file_limit() -> None:
    """As many open files as this process may have without asking; whether that is enough was checked before."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fail(channel: socket.socket, text: str) -> int:
    channel.send(FAILURE + text.encode()[:4000])
    return FAILED_EXIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
