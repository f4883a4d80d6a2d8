"""Which requests may be sent now: by their offsets, or by free slots. Arithmetic only, in ns from the window's start.

Both schedules are asked the same: `mark` moves on in time, then `wanted_connections`, `sendable` and `take` answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from bench_runner.load.channel import NEVER_NS
from bench_runner.load.positions import OwnPositions, Positions

#: connections are opened this long before their requests are due
OPEN_AHEAD_NS = 500_000_000


class TimedSchedule:
    """Every request at its offset, however many are in flight; of a plan dealt to several, every `step`-th.

    Offsets never fall. What lies behind `until_ns` is not part of the schedule.
    """

    def __init__(
        self, offsets_ns: Sequence[int], ahead_ns: int, until_ns: int = NEVER_NS, first: int = 0, step: int = 1
    ) -> None:
        self._offsets_ns = offsets_ns
        self._ahead_ns = ahead_ns
        self._step = step
        self._start_ns: int | None = None
        self.in_flight = 0
        #: positions from here on are not sent
        self._end = bisect_right(offsets_ns, until_ns)
        #: the next position to be handed out; those below are due, and due soon
        self._next = self._due = self._soon = first
        self._mark_soon(0)

    @property
    def sendable(self) -> bool:
        """A request is due."""
        return self._next < self._due

    @property
    def over(self) -> bool:
        """All that is to be sent was handed out, and none of it is in flight."""
        return self._next >= self._end and not self.in_flight

    @property
    def wanted_connections(self) -> int:
        """Connections that requests now due, or due soon, will need."""
        return (self._soon - self._next) // self._step

    def open(self, start_ns: int) -> None:
        """The window opens at the instant `start_ns`; before that nothing is due."""
        self._start_ns = start_ns

    def mark(self, now_ns: int) -> None:
        """Moves on to the instant `now_ns`."""
        if self._start_ns is None or now_ns < self._start_ns:
            return
        elapsed_ns = now_ns - self._start_ns
        while self._due < self._end and self._offsets_ns[self._due] <= elapsed_ns:
            self._due += self._step
        self._mark_soon(elapsed_ns)

    def take(self) -> tuple[int, int]:
        """Hands out a sendable request: its position and the instant it was due."""
        assert self._start_ns is not None
        position = self._next
        self._next += self._step
        self.in_flight += 1
        return position, self._start_ns + self._offsets_ns[position]

    def release(self, position: int, now_ns: int) -> None:
        """The request at `position` is over."""
        self.in_flight -= 1

    @property
    def next_ns(self) -> int | None:
        """The next instant at which `mark` would change something; `None`: there is none."""
        if self._start_ns is None:
            return None
        moments = []
        if self._due < self._end:
            moments.append(self._offsets_ns[self._due])
        if self._soon < self._end:
            moments.append(self._offsets_ns[self._soon] - self._ahead_ns)
        return self._start_ns + min(moments) if moments else None

    def _mark_soon(self, elapsed_ns: int) -> None:
        while self._soon < self._end and self._offsets_ns[self._soon] <= elapsed_ns + self._ahead_ns:
            self._soon += self._step


class SlotSchedule:
    """No more in flight than there are slots: a closed loop, or offsets under a cap.

    A slot draws its next request when the connection for it is to be opened. Several processes may draw from the same
    positions, so a slot that is free anywhere takes whatever is next anywhere.
    """

    def __init__(
        self,
        positions: Positions,
        slots: int,
        ahead_ns: int,
        *,
        offsets_ns: Sequence[int] | None = None,
        think_ns: Sequence[int] | None = None,
        until_ns: int = NEVER_NS,
    ) -> None:
        self._positions = positions
        self._offsets_ns = offsets_ns
        self._think_ns = think_ns
        self._ahead_ns = ahead_ns
        self._until_ns = until_ns
        self._start_ns: int | None = None
        self.in_flight = 0
        #: moments at which idle slots of a closed loop will go on, a heap
        self._thinking: list[int] = []
        #: (moment due, position) that slots hold: in some while, soon, now. Two heaps and a queue.
        self._held: list[tuple[int, int]] = []
        self._soon: list[tuple[int, int]] = []
        self._ready: deque[tuple[int, int]] = deque()
        for _ in range(slots):
            self._assign(0)
        self._mark_soon(0)

    @property
    def sendable(self) -> bool:
        """A request is due and has a slot."""
        return bool(self._ready)

    @property
    def over(self) -> bool:
        """Nothing is in flight and no slot has anything before it."""
        if self.in_flight or self._ready or self._soon or self._held:
            return False
        return not self._thinking or self._positions.exhausted

    @property
    def wanted_connections(self) -> int:
        """Connections that requests now due, or due soon, will need."""
        return len(self._ready) + len(self._soon)

    def open(self, start_ns: int) -> None:
        """The window opens at the instant `start_ns`; before that nothing is due."""
        self._start_ns = start_ns

    def mark(self, now_ns: int) -> None:
        """Moves on to the instant `now_ns`. Behind the end of sending, whatever slots hold is dropped."""
        if self._start_ns is None or now_ns < self._start_ns:
            return
        elapsed_ns = now_ns - self._start_ns
        if elapsed_ns > self._until_ns:
            self._positions = OwnPositions(0)
            for waiting in (self._thinking, self._held, self._soon, self._ready):
                waiting.clear()
            return
        self._mark_soon(elapsed_ns)
        while self._soon and self._soon[0][0] <= elapsed_ns:
            self._ready.append(heappop(self._soon))

    def take(self) -> tuple[int, int]:
        """Hands out a sendable request: its position and the instant it was due."""
        assert self._start_ns is not None
        due_ns, position = self._ready.popleft()
        self.in_flight += 1
        return position, self._start_ns + due_ns

    def release(self, position: int, now_ns: int) -> None:
        """The request at `position` is over: its slot is free, once the think time behind it has passed."""
        assert self._start_ns is not None
        self.in_flight -= 1
        self._assign(now_ns - self._start_ns + (self._think_ns[position] if self._think_ns else 0))

    @property
    def next_ns(self) -> int | None:
        """The next instant at which `mark` would change something; `None`: only a free slot will."""
        if self._start_ns is None:
            return None
        moments = []
        if self._soon:
            moments.append(self._soon[0][0])
        if self._held:
            moments.append(self._held[0][0] - self._ahead_ns)
        if self._thinking:
            moments.append(self._thinking[0] - self._ahead_ns)
        if not moments:
            return None
        # One more look behind the end of sending, so that what slots hold is dropped then.
        return self._start_ns + min(*moments, self._until_ns + 1)

    def _assign(self, free_ns: int) -> None:
        """A slot is free from `free_ns` on."""
        if self._offsets_ns is None:
            heappush(self._thinking, free_ns)
        elif (position := self._positions.draw()) is not None:
            heappush(self._held, (self._offsets_ns[position], position))

    def _mark_soon(self, elapsed_ns: int) -> None:
        horizon_ns = elapsed_ns + self._ahead_ns
        while self._thinking and self._thinking[0] <= horizon_ns:
            due_ns = heappop(self._thinking)
            if (position := self._positions.draw()) is not None:
                heappush(self._soon, (due_ns, position))
        while self._held and self._held[0][0] <= horizon_ns:
            heappush(self._soon, heappop(self._held))


Schedule = TimedSchedule | SlotSchedule
