"""Where the slots of a schedule draw the positions of the plan: a counter of one process, or of several together."""

from __future__ import annotations

import os
import sys
from array import array
from pathlib import Path


class OwnPositions:
    """0, 1, 2, … for one process."""

    def __init__(self, count: int) -> None:
        self._next = 0
        self._count = count

    @property
    def exhausted(self) -> bool:
        """There are no more."""
        return self._next >= self._count

    def draw(self) -> int | None:
        """The next one; `None` once there is none."""
        if self._next >= self._count:
            return None
        self._next += 1
        return self._next - 1


class SharedPositions:
    """0, 1, 2, … for several processes, each once: they share one open file, and so its read position.

    The kernel moves that position under a lock (`read` of one open file description is atomic since Linux 3.14).
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size

    @property
    def exhausted(self) -> bool:
        """There are no more."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) >= self._size

    def draw(self) -> int | None:
        """The next one; `None` once there is none."""
        item = os.read(self._fd, 8)
        return int.from_bytes(item, sys.byteorder) if item else None


Positions = OwnPositions | SharedPositions


def open_shared(folder: Path, count: int) -> int:
    """A file descriptor of `count` positions, to be inherited by those that draw from it. It has no name any more."""
    path = folder / "positions.bin"
    path.write_bytes(array("q", range(count)).tobytes())
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    path.unlink()
    return fd
