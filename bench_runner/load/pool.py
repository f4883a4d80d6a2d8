"""Connections that are opening and connections that wait for a request."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from bench_runner.load.channel import NEVER_NS, LoadBroken
from bench_runner.load.connection import FAILED, IDLE, READ_BYTES, Connection
from engines.clock import monotonic_ns

if TYPE_CHECKING:
    import ssl

    from bench_runner.load.planfile import Plan
    from bench_runner.load.tls import TlsStream

#: connections that may be opening at once: more overrun small listen backlogs, and each lost SYN costs a second
MAX_OPENING = 64


class Pool:
    """Opens connections, watches them in the epoll, hands them out first come first served.

    A connection that could not be opened is handed out too, as FAILED: it is the failure of the request that takes it.
    """

    def __init__(self, plan: Plan, epoll: select.epoll) -> None:
        # As bytes: a str would load the IDNA codec.
        family, _, _, _, address = socket.getaddrinfo(
            plan.address.encode(), plan.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        self._family = family
        self._address: tuple[str, int] | tuple[str, int, int, int] = address  # type: ignore[assignment]
        self._host = plan.host
        self._timeout_ns = plan.connect_timeout_ns
        self._epoll = epoll
        self._context: ssl.SSLContext | None = None
        if plan.tls:
            from bench_runner.load.tls import client_context

            self._context = client_context(plan.ca_file)
        #: every open connection by its file descriptor
        self.table: dict[int, Connection] = {}
        self.idle: deque[Connection] = deque()
        #: stale connections whose requests are to be sent again, and ready (or FAILED) ones opened for that
        self.stale: deque[Connection] = deque()
        self.bound: deque[Connection] = deque()
        #: in the order of their deadlines
        self.opening: OrderedDict[Connection, None] = OrderedDict()
        self._bound_opening = 0
        self.opened = 0

    @property
    def next_deadline_ns(self) -> int | None:
        """When the oldest opening connection is given up; `None`: none is opening."""
        return next(iter(self.opening)).deadline_ns if self.opening else None

    def fill(self, wanted: int, latest_ns: int = NEVER_NS) -> None:
        """Opens connections until `wanted` are there or under way, or as many as may be at once."""
        while self.stale:
            self._open(latest_ns, successor_to=self.stale.popleft())
        while len(self.idle) + len(self.opening) - self._bound_opening < wanted and len(self.opening) < MAX_OPENING:
            self._open(latest_ns)

    def resending(self) -> list[Connection]:
        """Those that hold a request which waits to be sent again."""
        return [*self.stale, *self.bound, *(connection for connection in self.opening if connection.bound)]

    def _open(self, latest_ns: int, *, successor_to: Connection | None = None) -> None:
        """Begins to open one connection; it turns up in `idle`, or in `bound` where it takes over a request."""
        now = monotonic_ns()
        try:
            connection = Connection(self._family)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise LoadBroken(
                    f"no more than {len(self.table)} connections can be opened: the limit of open files is reached "
                    "(RLIMIT_NOFILE); raise it with `ulimit -n`, or lower the load"
                ) from error
            raise
        if successor_to is not None:
            connection.bound = True
            self._bound_opening += 1
            connection.begin(successor_to.position, successor_to.scheduled_ns, successor_to.resends)
        connection.deadline_ns = min(now + self._timeout_ns, latest_ns)
        self.table[connection.fd] = connection
        self.opening[connection] = None
        code = connection.open(self._address, now)
        if code in (0, errno.EINPROGRESS):
            self._epoll.register(connection.fd, select.EPOLLOUT)
        else:
            self.fail(connection, os.strerror(code))

    def advance(self, connection: Connection) -> None:
        """The socket of an opening connection is ready for the next step: TCP's, then TLS's."""
        if connection.tls is None:
            code = connection.opened()
            if code:
                return self.fail(connection, os.strerror(code))
            self._epoll.modify(connection.fd, select.EPOLLIN)
            if self._context is None:
                return self._ready(connection)
        return self._shake(connection, self._context)

    def _shake(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        from bench_runner.load.tls import TlsStream

        assert context is not None
        received = b""
        try:
            if connection.tls is None:
                connection.tls = TlsStream(context, self._host)
            else:
                received = connection.sock.recv(READ_BYTES)
                if not received:
                    return self.fail(connection, "closed by the server during the TLS handshake")
            done = connection.tls.shake(received)
            if hello := connection.tls.outgoing():
                connection.sock.send(hello)
        except BlockingIOError:
            return None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; a host name TLS cannot take, a ValueError
            return self.fail(connection, f"TLS: {error}")
        if done:
            connection.connect_ns = monotonic_ns() - connection.opened_ns
            self._ready(connection)
        return None

    def _ready(self, connection: Connection) -> None:
        self.opened += 1
        self._hand_out(connection, IDLE)

    def fail(self, connection: Connection, error: str) -> None:
        """The connection cannot be used; whoever takes it gets `error`."""
        connection.error = error
        if connection.connect_ns == 0:
            connection.connect_ns = monotonic_ns() - connection.opened_ns
        self.drop(connection)
        self._hand_out(connection, FAILED)

    def _hand_out(self, connection: Connection, state: int) -> None:
        if connection in self.opening:
            del self.opening[connection]
            self._bound_opening -= connection.bound
        connection.state = state
        (self.bound if connection.bound else self.idle).append(connection)

    def wither(self, connection: Connection) -> None:
        """Something came on an idle connection: the server closed it or speaks out of turn, so it is of no more use.

        Only TLS may say something between responses (session tickets come when they like).
        """
        if connection.tls is not None and self._is_alive(connection, connection.tls):
            return
        self.idle.remove(connection)
        if connection.served:
            self.drop(connection)
        else:
            self.fail(connection, "closed by the server before the request was sent")

    @staticmethod
    def _is_alive(connection: Connection, tls: TlsStream) -> bool:
        try:
            received = connection.sock.recv(READ_BYTES)
            return bool(received) and tls.decrypt(received) == (b"", False)
        except BlockingIOError:
            return True
        except OSError:
            return False

    def expire(self, now_ns: int) -> bool:
        """Gives up those that were not open in time. True: there were such."""
        expired = False
        while self.opening:
            connection = next(iter(self.opening))
            if connection.deadline_ns > now_ns:
                break
            expired = True
            self.fail(connection, f"no connection within {(now_ns - connection.opened_ns) / 1e9:.3g} s")
        return expired

    def drop(self, connection: Connection, *, reset: bool = False) -> None:
        """Closes it and forgets it."""
        self.table.pop(connection.fd, None)
        connection.close(reset=reset)

    def clear(self) -> None:
        """Closes all, at once."""
        for connection in list(self.table.values()):
            self.drop(connection, reset=True)
        self.idle.clear()
        self.bound.clear()
        self.opening.clear()
