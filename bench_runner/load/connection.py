"""One TCP connection and the request it carries. What it receives goes to the spool; it knows of framing alone."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from engines.clock import monotonic_ns
from engines.dialects.http1 import ResponseFramer

if TYPE_CHECKING:
    from bench_runner.load.tls import TlsStream

#: asm-generic values; Python has no names for them
SO_TIMESTAMPNS = 35
SO_TIMESTAMPING = 37
_TX_SOFTWARE, _SOFTWARE, _OPT_TSONLY, _OPT_RX_FILTER = 1 << 1, 1 << 4, 1 << 11, 1 << 17
#: report transmit stamps, without the data, where a send asks for one; the second where a kernel knows no RX filter
_STAMP_REPORTS = (_SOFTWARE | _OPT_TSONLY | _OPT_RX_FILTER, _SOFTWARE | _OPT_TSONLY)
#: asked of the one send that begins a request, so that no other stamp turns up
_STAMP_THIS = [(socket.SOL_SOCKET, SO_TIMESTAMPING, struct.pack("I", _TX_SOFTWARE))]
#: what one `recvmsg` may bring
READ_BYTES = 16_384
#: room for one timestamp message
ANCILLARY_BYTES = socket.CMSG_SPACE(16)
#: seconds, nanoseconds of a kernel stamp
_TIMESPEC = struct.Struct("@qq")

OPENING, IDLE, BUSY, FAILED, CLOSED = range(5)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection:
    """A socket in one of five states, and the request it carries."""

    __slots__ = ("answered", "bound", "connect_ns", "deadline_ns", "error", "fd", "framer", "local_port", "opened_ns",
                 "pending", "position", "quick_ack", "recvmsg", "resends", "scheduled_ns", "sent_kernel_ns", "sent_ns",
                 "served", "sock", "stamps_sends", "state", "tls", "waited_ns")  # fmt: skip

    def __init__(self, family: int) -> None:
        self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.fd = self.sock.fileno()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.stamps_sends = any(self._accepts(flags) for flags in _STAMP_REPORTS)
        self.recvmsg = self.sock.recvmsg
        self.framer = ResponseFramer()
        self.tls: TlsStream | None = None
        self.state = OPENING
        self.local_port = 0
        self.opened_ns = 0
        self.connect_ns = 0
        #: when opening, or the answer to its request, is given up
        self.deadline_ns = 0
        #: why it is FAILED
        self.error = ""
        #: opened for one request that is sent again, and for no other
        self.bound = False
        #: responses it carried before the present one
        self.served = 0
        self.position = -1
        self.resends = 0
        self.scheduled_ns = 0
        self.sent_ns = 0
        #: when the kernel passed the request on to the network, on our clock; 0: it did not say
        self.sent_kernel_ns = 0
        #: bytes of the request that the socket did not take yet
        self.pending: memoryview | None = None
        #: QUICKACK is to be armed at the next read
        self.quick_ack = False
        #: bytes of the answer came
        self.answered = False
        #: see `Capture.waited_ns`
        self.waited_ns = 0

    def open(self, address: tuple[str, int] | tuple[str, int, int, int], now_ns: int) -> int:
        """Begins to connect. Returns 0 or EINPROGRESS, or the errno of an immediate failure."""
        self.opened_ns = now_ns
        return self.sock.connect_ex(address)

    def opened(self) -> int:
        """The socket became writable: the connection stands (0), or the errno of why it does not."""
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.connect_ns = monotonic_ns() - self.opened_ns
        if error == 0:
            self.local_port = self.sock.getsockname()[1]
        return error

    def begin(self, position: int, scheduled_ns: int, resends: int = 0) -> None:
        """Takes a request on; nothing is sent yet."""
        self.position = position
        self.scheduled_ns = scheduled_ns
        self.sent_ns = 0
        self.sent_kernel_ns = 0
        self.resends = resends
        self.answered = False
        self.waited_ns = 0

    def send(self, payload: memoryview, *, first: bool = True) -> bool:
        """Writes what the socket takes; the rest stays in `pending`. False: the peer is gone."""
        try:
            sent = (
                self.sock.sendmsg((payload,), _STAMP_THIS) if first and self.stamps_sends else self.sock.send(payload)
            )
        except BlockingIOError:
            sent = 0
        except OSError:
            self.pending = payload
            return False
        self.pending = payload[sent:] if sent < len(payload) else None
        return True

    def transmitted_ns(self) -> int:
        """Wall time at which the kernel passed a request on to the network; 0: no such message waits for us."""
        try:
            _, ancillary, _, _ = self.sock.recvmsg(0, 256, socket.MSG_ERRQUEUE)
        except OSError:
            return 0
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
        return 0

    def rest(self) -> None:
        """The response is over and the connection may carry another request."""
        self.state = IDLE
        self.served += 1
        self.framer.reset()

    def close(self, *, reset: bool = False) -> None:
        """Closes it; with `reset` the peer learns at once, and bytes that the kernel still holds are dropped."""
        if reset and self.state != FAILED:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.state = CLOSED
        self.sock.close()

    def _accepts(self, stamp_flags: int) -> bool:
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, stamp_flags)
        except OSError:
            return False
        return True
