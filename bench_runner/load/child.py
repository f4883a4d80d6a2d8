"""The load process: opens its plan, holds its window, says how it went.

Started as `python -m bench_runner.load.child SPOOL FD`. Its imports are few on purpose: it is started for every run.
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
from bench_runner.load.planfile import PLAN_FILE, open_plan
from bench_runner.load.spool import SpoolWriter

#: exit codes beside 0
FAILED_EXIT, ORPHANED_EXIT = 1, 3


def main(arguments: list[str]) -> int:
    """Drives one window; the exit code says whether it was one."""
    folder = Path(arguments[0])
    channel = socket.socket(fileno=int(arguments[1]))
    try:
        channel.send(drive_window(folder, channel))
    except WorkerGone:
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


def drive_window(folder: Path, channel: socket.socket) -> bytes:
    """Carries out the plan in `folder`; the outcome as a message."""
    raise_file_limit()
    plan_path = folder / PLAN_FILE
    plan = open_plan(plan_path)
    plan_path.unlink()  # credentials do not outlive their use
    counters = Counters(folder)
    generator = Generator(plan, SpoolWriter(folder, len(plan.ends)), channel, counters)
    # Nothing here makes cycles, and a collection in the window is a pause in every stream.
    gc.collect()
    gc.freeze()
    gc.disable()
    return pack_outcome(generator.run())


def raise_file_limit() -> None:
    """As many open files as this process may have without asking; whether that is enough was checked before."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fail(channel: socket.socket, text: str) -> int:
    channel.send(FAILURE + text.encode()[:4000])
    return FAILED_EXIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
