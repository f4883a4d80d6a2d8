"""A server below HTTP: it takes whole requests and sends whatever bytes a test wants."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator


class EndConnection(Exception):
    """Raised by a script: close this connection now."""


class Peer:
    """One connection, as a script sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        #: requests this connection brought so far
        self.requests = 0

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Closes with a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_close(self) -> None:
        """Until the client goes away, saying nothing."""
        while self.sock.recv(4096):
            pass

    def request(self) -> bytes:
        """The next whole request; b"" where the client is gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65_536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        while len(body) < length:
            body += self.sock.recv(65_536)
        self.requests += 1
        return head + b"\r\n\r\n" + body


class RawServer:
    """Serves one connection after the other with the same script."""

    def __init__(self, script: Callable[[Peer], None]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.requests: list[bytes] = []
        self.accepted = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock, contextlib.suppress(OSError, EndConnection):
                peer = Peer(sock)
                while request := peer.request():
                    self.requests.append(request)
                    self._script(peer)

    def close(self) -> None:
        """Waits for the connection under way, which the client has left by now."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def raw_server(script: Callable[[Peer], None]) -> Iterator[RawServer]:
    """A server for the length of a with block."""
    server = RawServer(script)
    try:
        yield server
    finally:
        server.close()
