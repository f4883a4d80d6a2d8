"""What a load process counts about its window, and how far its two clocks can be trusted."""

from __future__ import annotations

from bench_runner.load.channel import Counters
from engines.clock import wall_offset_ns

#: wall clock against monotonic clock: more than this is a step
STEP_NS = 1_000_000


class Tally:
    """Counts, published now and then; and the mapping of kernel stamps (wall clock) to the monotonic clock."""

    __slots__ = (
        "_counters",
        "clock_stepped",
        "failed",
        "finished",
        "offset_ns",
        "received_bytes",
        "sent",
    )

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.sent = 0
        self.finished = 0
        self.failed = 0
        self.received_bytes = 0
        #: wall clock minus monotonic clock, for every kernel stamp of the window
        self.offset_ns = wall_offset_ns()
        #: the wall clock was set meanwhile, so kernel stamps are wrong by as much
        self.clock_stepped = False

    def publish(self) -> None:
        """Shows the counts to the worker, and looks at the wall clock."""
        if abs(wall_offset_ns(3) - self.offset_ns) > STEP_NS:
            self.clock_stepped = True
        self._counters.store(self.sent, self.finished, self.failed, self.received_bytes)
