"""When a server of this package ends: at a signal, or with the process that started it."""

from __future__ import annotations

import os
import signal
from typing import Protocol

from engines.clock import monotonic_ns
from engines.simulated.loop import Loop

_PARENT_CHECK_NS = 500_000_000


class Ending(Protocol):
    """A server that can be told to end."""

    @property
    def loop(self) -> Loop:
        """What it runs on."""

    def shut_down(self) -> None:
        """End, in its own manner."""


def end_with_signals(server: Ending) -> None:
    """SIGTERM and SIGINT wake the loop through a pipe, so that it ends between two events."""
    reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def on_signal(_: int) -> None:
        if set(os.read(reads, 64)) & {signal.SIGTERM, signal.SIGINT}:
            server.shut_down()

    server.loop.watch(reads, on_signal)


def end_with_parent(server: Ending) -> None:
    """It ends with its stdin, or where the parent is gone: one that is killed leaves no server behind."""
    parent = os.getppid()

    def on_stdin(_: int) -> None:
        if not os.read(0, 4096):
            server.loop.forget(0)
            server.shut_down()

    def check() -> None:
        if os.getppid() != parent:
            server.shut_down()
        else:
            server.loop.call_at(monotonic_ns() + _PARENT_CHECK_NS, check)

    server.loop.watch(0, on_stdin)
    check()
