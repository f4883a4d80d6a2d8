"""Which requests may be sent now: by their offsets, by free slots, or by both. Arithmetic only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

#: connections are opened this long before their requests are due
OPEN_AHEAD_NS = 500_000_000


class Schedule:
    """Hands out positions 0, 1, 2, … in order, each once.

    With offsets, request k is due at start + offset k (offsets never fall); without, it is due when a slot is free.
    `slots` is the most in flight; `None`: no cap.
    """

    def __init__(self, count: int, offsets_ns: Sequence[int] | None, slots: int | None, ahead_ns: int) -> None:
        self.count = count
        self._offsets_ns = offsets_ns
        self._slots = count if slots is None else min(slots, count)
        self._ahead_ns = ahead_ns
        self._start_ns: int | None = None
        #: when each free slot became free (closed loop only)
        self._free_since: deque[int] = deque()
        self.in_flight = 0
        #: the next position to be handed out
        self.next = 0
        #: positions below are due, and due soon
        self._due = 0
        self._soon = count if offsets_ns is None else 0
        self._mark_soon(0)

    @property
    def sendable(self) -> bool:
        """A request is due and a slot is free for it."""
        return self.next < self._due and self.in_flight < self._slots

    @property
    def wanted_connections(self) -> int:
        """Connections that requests now due, or due soon, will need."""
        return min(self._soon - self.next, self._slots - self.in_flight)

    @property
    def most_connections(self) -> int:
        """Connections that may be open at once."""
        return self._slots

    def open(self, start_ns: int) -> None:
        """The window opens at `start_ns`; before that nothing is due."""
        self._start_ns = start_ns
        if self._offsets_ns is None:
            self._free_since.extend([start_ns] * self._slots)

    def mark(self, now_ns: int) -> None:
        """Moves on to `now_ns`."""
        if self._start_ns is None or now_ns < self._start_ns:
            return
        if self._offsets_ns is None:
            self._due = self.count
            return
        elapsed_ns = now_ns - self._start_ns
        while self._due < self.count and self._offsets_ns[self._due] <= elapsed_ns:
            self._due += 1
        self._mark_soon(elapsed_ns)

    def take(self) -> tuple[int, int]:
        """Hands out a sendable request: its position and the moment it was due."""
        assert self._start_ns is not None
        position = self.next
        self.next += 1
        self.in_flight += 1
        if self._offsets_ns is None:
            return position, self._free_since.popleft()
        return position, self._start_ns + self._offsets_ns[position]

    def release(self, now_ns: int) -> None:
        """A request is over: its slot is free."""
        self.in_flight -= 1
        if self._offsets_ns is None:
            self._free_since.append(now_ns)

    @property
    def next_ns(self) -> int | None:
        """The next instant at which `mark` would change something; `None`: only a free slot will."""
        if self._start_ns is None:
            return None
        if self._offsets_ns is None:
            return self._start_ns if self._due == 0 else None
        moments = []
        if self._due < self.count:
            moments.append(self._offsets_ns[self._due])
        if self._soon < self.count:
            moments.append(self._offsets_ns[self._soon] - self._ahead_ns)
        return self._start_ns + min(moments) if moments else None

    def _mark_soon(self, elapsed_ns: int) -> None:
        offsets_ns = self._offsets_ns
        while (
            offsets_ns is not None and self._soon < self.count and offsets_ns[self._soon] <= elapsed_ns + self._ahead_ns
        ):
            self._soon += 1
