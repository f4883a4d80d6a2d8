"""One client's socket: kernel stamps on what arrives, never blocking on what leaves."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import TYPE_CHECKING

from engines.clock import monotonic_ns, wall_offset_ns
from engines.simulated.http import RequestReader
from engines.simulated.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from engines.simulated.tls import TlsEnd

#: linux/socket.h; the socket module does not name it
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
_READ_BYTES = 256 * 1024
_OFFSET_EVERY_NS = 1_000_000_000


class KernelClock:
    """Kernel stamps are wall time; this puts them on the monotonic clock, its offset read anew each second."""

    def __init__(self) -> None:
        self._offset_ns = wall_offset_ns()
        self._read_at_ns = monotonic_ns()

    def to_monotonic_ns(self, wall_ns: int, now_ns: int) -> int:
        """A kernel stamp as a monotonic one; never later than `now_ns`."""
        if now_ns - self._read_at_ns > _OFFSET_EVERY_NS:
            self._offset_ns = wall_offset_ns()
            self._read_at_ns = now_ns
        return min(wall_ns - self._offset_ns, now_ns)


class Connection:
    """A socket with its reader and what could not be sent yet."""

    __slots__ = (
        "_clock",
        "_close_when_sent",
        "_loop",
        "_on_bytes",
        "_on_gone",
        "_outbox",
        "_sock",
        "_tls",
        "arrival_clock",
        "arrival_ns",
        "busy",
        "closed",
        "generation",
        "idle_since_ns",
        "keep_alive",
        "peer_port",
        "reader",
    )

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        clock: KernelClock,
        on_bytes: Callable[[Connection], None],
        on_gone: Callable[[Connection], None],
        tls: TlsEnd | None = None,
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock = sock
        self._loop = loop
        self._clock = clock
        self._on_bytes = on_bytes
        self._on_gone = on_gone
        self._tls = tls
        self._outbox = bytearray()
        self._close_when_sent = False
        self.reader = RequestReader()
        self.peer_port: int = sock.getpeername()[1]
        #: stamp of the last bytes that arrived
        self.arrival_ns = monotonic_ns()
        self.arrival_clock = "user"
        #: a response is under way; further requests wait in the reader
        self.busy = False
        self.keep_alive = True
        self.closed = False
        self.idle_since_ns = self.arrival_ns
        #: what is being generated for it
        self.generation: object = None
        loop.watch(sock.fileno(), self._ready)

    def send(self, data: bytes) -> bool:
        """Offer bytes to the socket; what it does not take waits. False: some of it waits."""
        if self.closed:
            return True
        return self._offer(data if self._tls is None else self._tls.encrypt(data))

    def _offer(self, data: bytes) -> bool:
        if self._outbox:
            self._outbox += data
            return False
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._lost()
            return True
        if sent == len(data):
            return True
        self._outbox += memoryview(data)[sent:]
        self._loop.change(self._sock.fileno(), READ | WRITE)
        return False

    @property
    def has_unsent(self) -> bool:
        """The socket has not taken everything yet."""
        return bool(self._outbox)

    def close_when_sent(self) -> None:
        """Close once everything offered is out."""
        self._close_when_sent = True
        if not self._outbox:
            self.close()

    def close(self, *, reset: bool = False) -> None:
        """Close now; `reset`: with an RST instead of a FIN."""
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._sock.fileno())
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        self._on_gone(self)

    def _lost(self) -> None:
        self.close()

    def _ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self._drain()
        if not self.closed and events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self._read()

    def _drain(self) -> None:
        try:
            sent = self._sock.send(self._outbox)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lost()
            return
        del self._outbox[:sent]
        if not self._outbox:
            if self._close_when_sent:
                self.close()
            else:
                self._loop.change(self._sock.fileno(), READ)

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lost()
            return
        if not data:
            self._lost()
            return
        now_ns = monotonic_ns()
        self.arrival_ns = now_ns
        self.arrival_clock = "user"
        for level, kind, stamp in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                self.arrival_ns = self._clock.to_monotonic_ns(seconds * 1_000_000_000 + nanoseconds, now_ns)
                self.arrival_clock = "kernel"
        if self._tls is not None:
            try:
                data, answer = self._tls.take(data)
            except OSError:  # ssl.SSLError is one
                self._lost()
                return
            if answer:
                self._offer(answer)
            if not data:
                return
        self.reader.buffer += data
        self._on_bytes(self)
