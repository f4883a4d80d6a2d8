"""`python -S -P -m tests.calibration.launcher CORE COMMAND…`: runs it, says what it cost as one line of JSON.

A process of its own, and a small one: the kernel's peak memory of a child begins with that of whoever started it.
`CORE` is the one it is held to, -1 any. What the command writes to standard output goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys

from engines.clock import monotonic_ns


def main(core: str, *command: str) -> int:
    """Run, wait, tell: of the command and every process it waited for, of memory the largest one's."""
    if int(core) >= 0:
        os.sched_setaffinity(0, {int(core)})
    begin_ns = monotonic_ns()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, used = os.wait4(pid, 0)
    told = {
        "wall_s": (monotonic_ns() - begin_ns) / 1e9,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "code": os.waitstatus_to_exitcode(status),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
