"""A timerfd on the monotonic clock: an epoll timeout rounds up to a whole millisecond, this does not.

Called through ctypes: the standard library has it from Python 3.13 only.
"""

from __future__ import annotations

import ctypes
import os

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1

_libc = ctypes.CDLL(None, use_errno=True)
_ItimerSpec = ctypes.c_long * 4


class Timer:
    """Becomes readable at one instant, again and again."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        #: the instant it is set to; 0: not set
        self.armed_ns = 0

    def arm(self, at_ns: int) -> None:
        """Sets it to the monotonic instant `at_ns`; one that is past fires at once."""
        if at_ns == self.armed_ns:
            return
        spec = _ItimerSpec(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        if _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")
        self.armed_ns = at_ns

    def drain(self) -> None:
        """Takes the expiry, so that it is not readable any more."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return  # armed anew since it fired
        self.armed_ns = 0
