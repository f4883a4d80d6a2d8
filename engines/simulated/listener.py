"""The listening socket: opened, closed while connections are refused, opened again on the same port."""

from __future__ import annotations

import socket
from collections.abc import Callable

from engines.clock import monotonic_ns
from engines.simulated.connection import SO_TIMESTAMPNS
from engines.simulated.loop import READ, Loop

_BACKLOG = 4096
_REST_NS = 100_000_000


class Listener:
    """Gives each accepted socket to `on_socket`.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self, host: str, port: int, loop: Loop, *, nodelay: bool, on_socket: Callable[[socket.socket], None]
    ) -> None:
        self._address = (host, port)
        self._loop = loop
        self._nodelay = nodelay
        self._on_socket = on_socket
        self._sock: socket.socket | None = None
        self.open()

    @property
    def port(self) -> int:
        """Where it listens, or did."""
        return self._address[1]

    def open(self) -> None:
        """Take connections; nothing changes where it does already."""
        if self._sock is not None:
            return
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # from the first connection on, so that no stamp is filled in late
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.bind(self._address)
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        self._address = sock.getsockname()[:2]
        self._sock = sock
        self._loop.watch(sock.fileno(), self._accept, READ)

    def close(self) -> None:
        """Refuse connections."""
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _accept(self, _: int) -> None:
        while self._sock is not None:
            try:
                sock, _peer = self._sock.accept()
            except BlockingIOError:
                return
            except OSError:
                self._rest(self._sock)
                return
            if self._nodelay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._on_socket(sock)

    def _rest(self, sock: socket.socket) -> None:
        """No more files may be opened: look again in a while, instead of spinning."""
        self._loop.forget(sock.fileno())

        def again() -> None:
            if sock is self._sock:
                self._loop.watch(sock.fileno(), self._accept, READ)

        self._loop.call_at(monotonic_ns() + _REST_NS, again)
