"""The only reader of time in the tree: integer nanoseconds, monotonic; wall time only for rows and kernel stamps."""

from __future__ import annotations

import time
from datetime import UTC, datetime

#: Monotonic nanoseconds: the clock of every stamp. CLOCK_MONOTONIC, shared by all processes of this host.
monotonic_ns = time.monotonic_ns

#: Wall nanoseconds since the epoch: the clock of the kernel's socket stamps.
wall_ns = time.time_ns

#: CPU nanoseconds of this process, user and system.
process_cpu_ns = time.process_time_ns

#: Seconds; only where nothing is timed.
sleep_s = time.sleep


def utc_now() -> datetime:
    """Wall time, aware, UTC: for rows and renderings, never for differences."""
    return datetime.now(UTC)


def wall_offset_ns(samples: int = 9) -> int:
    """Wall clock minus monotonic clock, ns: subtract it from a kernel stamp to have it on our clock.

    The tightest of `samples` sandwiches mono-wall-mono, so a preemption between two readings does not count.
    """
    best_width = 1 << 62
    offset = 0
    for _ in range(samples):
        before = monotonic_ns()
        wall = wall_ns()
        after = monotonic_ns()
        if after - before < best_width:
            best_width = after - before
            offset = wall - (before + after) // 2
    return offset
