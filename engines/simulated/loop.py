"""A socket loop: epoll for readiness, a heap of timers with microsecond waits. Single-threaded, no asyncio."""

from __future__ import annotations

import heapq
import select
from collections.abc import Callable
from itertools import count

from engines.clock import monotonic_ns

READ = select.EPOLLIN | select.EPOLLRDHUP
WRITE = select.EPOLLOUT


class Loop:
    """Runs callbacks: on readiness of a file, at a moment, or after the next look at the files."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._soon: list[Callable[[], None]] = []
        self._order = count()
        self._running = True

    def watch(self, fd: int, callback: Callable[[int], None], events: int = READ) -> None:
        """Call `callback(events)` whenever the file is ready."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of a watched file."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; before the file is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Call once, at a monotonic moment or as soon after it as can be."""
        heapq.heappush(self._timers, (due_ns, next(self._order), callback))

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call once, after what is ready on the sockets now has been taken in."""
        self._soon.append(callback)

    def stop(self) -> None:
        """Leave `run` after this round."""
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        callbacks = self._callbacks
        epoll_fd = [self._epoll.fileno()]
        while self._running:
            soon, self._soon = self._soon, []
            if not soon:
                # epoll waits in whole milliseconds, select on the epoll file in microseconds
                wait_s = None
                if self._timers:
                    wait_s = max(0, self._timers[0][0] - monotonic_ns()) / 1e9
                select.select(epoll_fd, (), (), wait_s)
            for fd, events in self._epoll.poll(0):
                callback = callbacks.get(fd)
                if callback is not None:
                    callback(events)
            for run_now in soon:
                run_now()
            now_ns = monotonic_ns()
            while self._timers and self._timers[0][0] <= now_ns:
                heapq.heappop(self._timers)[2]()
