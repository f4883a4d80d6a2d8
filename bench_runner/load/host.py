"""What this host does to a load process: the priority it grants, the CPU time it withholds. Linux."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

#: priorities from best to worst, as `LoadOutcome.priority` has them
PRIORITIES = ("realtime", "nice", "normal")

_NICE = -10


def raise_priority(processes: int) -> str:
    """Asks for the best priority that may be had; one of PRIORITIES.

    A load process works for microseconds and then waits, so running at once costs others little and keeps its stamps
    and sends in time beside a busy neighbour. Real time is asked for only while a core is left to everyone else.
    """
    if processes < (os.cpu_count() or 1):
        try:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError:
            pass  # not permitted
        else:
            return "realtime"
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    except OSError:
        return "normal"
    return "nice"


class HostCounters(NamedTuple):
    """What the host did to this process, and to itself, since some moment; differences count."""

    #: times that the kernel took the CPU from this process while it wanted it
    preemptions: int
    #: time for which this thread was ready to run and had no CPU; `None`: the kernel does not tell
    cpu_wait_ns: int | None
    #: CPU time that the hypervisor gave to others, all cores together; `None`: the kernel does not tell
    stolen_ms: int | None


def read_counters() -> HostCounters:
    """The counters now."""
    return HostCounters(
        resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        _field("/proc/self/schedstat", 1),
        None if (ticks := _field("/proc/stat", 8)) is None else ticks * 1000 // os.sysconf("SC_CLK_TCK"),
    )


def peak_memory_kib() -> int:
    """Most memory this process ever had resident; -1: the kernel does not tell.

    Not `getrusage`: its maximum includes that of the process which started this one, from before the exec.
    """
    try:
        status = Path("/proc/self/status").read_bytes()
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0])
    except (OSError, IndexError, ValueError):
        return -1


def _field(path: str, place: int) -> int | None:
    """A number in the first line of a file of the kernel's."""
    try:
        with Path(path).open("rb") as file:
            return int(file.readline().split()[place])
    except (OSError, IndexError, ValueError):
        return None
