"""What the worker and a load process say to each other: messages over a socketpair, counters in shared memory.

Down: start, cancel, deadline. Up: ready, then outcome or failure. End-of-file down means that the worker died, up that
the load process did.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

PROGRESS_FILE = "progress.bin"

START, CANCEL, DEADLINE, READY, OUTCOME, FAILURE = b"S", b"C", b"D", b"R", b"O", b"F"

#: how a window ended, as `LoadOutcome.ended` has it
WINDOW_ENDINGS = ("complete", "cancelled", "timeout", "lapsed")

#: a deadline that never comes
NEVER_NS = (1 << 63) - 1
_INSTANT = struct.Struct("=q")
_OUTCOME = struct.Struct("=qqqqqqqqqqqq")
_COUNTERS = struct.Struct("=qqqq")


class Outcome(NamedTuple):
    """The window as the load process saw it."""

    #: position in WINDOW_ENDINGS
    ended: int
    start_ns: int
    end_ns: int
    cpu_ns: int
    #: worst gap between kernel stamp and reading; -1: no kernel stamps
    max_lag_ns: int
    clock_stepped: int
    connections_opened: int
    #: times that the kernel took the CPU away from a process that wanted it
    preemptions: int
    #: time without a CPU while ready to run; -1: the kernel does not tell
    cpu_wait_ns: int
    #: CPU time that the hypervisor gave to others; -1: the kernel does not tell
    stolen_ms: int
    #: most memory it ever had; -1: the kernel does not tell
    peak_memory_kib: int
    #: position in PRIORITIES
    priority: int


class LoadBroken(Exception):
    """The load process cannot go on; the message is for the person who asked for the run."""


class WorkerGone(Exception):
    """The worker's end of the socketpair is closed: nobody wants this load any more."""


def pack_deadline(deadline_ns: int | None) -> bytes:
    """A deadline for the way down; `None`: none."""
    return DEADLINE + _INSTANT.pack(NEVER_NS if deadline_ns is None else deadline_ns)


def pack_start(start_ns: int) -> bytes:
    """The window's first instant for the way down."""
    return START + _INSTANT.pack(start_ns)


def unpack_instant(message: bytes) -> int:
    """The instant in a start or deadline message."""
    instant_ns: int = _INSTANT.unpack_from(message, 1)[0]
    return instant_ns


def pack_outcome(outcome: Outcome) -> bytes:
    """An outcome for the way up."""
    return OUTCOME + _OUTCOME.pack(*outcome)


def unpack_outcome(message: bytes) -> Outcome:
    """The outcome in a message."""
    return Outcome(*_OUTCOME.unpack_from(message, 1))


class Counters:
    """Four counters that one process writes and another reads: sent, finished, failed, received bytes."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0)
        fd = os.open(folder / PROGRESS_FILE, flags, 0o600)
        try:
            if create:
                os.posix_fallocate(fd, 0, _COUNTERS.size)
            self._memory = mmap.mmap(fd, _COUNTERS.size)
        finally:
            os.close(fd)

    def store(self, sent: int, finished: int, failed: int, received_bytes: int) -> None:
        """Sets all four."""
        _COUNTERS.pack_into(self._memory, 0, sent, finished, failed, received_bytes)

    def load(self) -> tuple[int, int, int, int]:
        """All four; a moment's picture, not a transaction."""
        sent, finished, failed, received_bytes = _COUNTERS.unpack_from(self._memory)
        return sent, finished, failed, received_bytes
