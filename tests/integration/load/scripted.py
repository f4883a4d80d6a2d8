"""A server that does what a test tells it, one thread a connection, and remembers what it saw."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engines.clock import monotonic_ns, sleep_s

EVENT = b'data: {"choices":[{"text":"x"}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Seen:
    """What the server saw; complete once its threads are done."""

    #: bytes of each request, in the order of their arrival
    requests: list[bytes] = field(default_factory=list)
    #: the client's port of each request, side by side with `requests`
    ports: list[int] = field(default_factory=list)
    accepted_ns: list[int] = field(default_factory=list)
    arrived_ns: list[int] = field(default_factory=list)
    #: connections that the client closed, or that broke
    closed_ns: list[int] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0


class Peer:
    """One accepted connection, as a script sees it."""

    def __init__(self, server: ScriptedServer, sock: socket.socket, port: int) -> None:
        self.server = server
        self.sock = sock
        self.port = port
        #: requests this connection brought so far
        self.requests = 0
        #: number of the request that is being answered, as its path tells it
        self.index = -1
        self._answering = False

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def stream(self, events: int, gap_s: float = 0.0) -> None:
        """A whole chunked response."""
        self.send(SSE_HEAD)
        for _ in range(events):
            sleep_s(gap_s)
            self.send(CHUNK)
        self.leave()  # before the client can know that it is over
        self.send(LAST_CHUNK)

    def enter(self, request: bytes) -> None:
        """A request arrived."""
        self.requests += 1
        self.index = int(request.split(b" ", 2)[1][1:])
        self._answering = True
        seen = self.server.seen
        with self.server.lock:
            seen.requests.append(request)
            seen.ports.append(self.port)
            seen.arrived_ns.append(monotonic_ns())
            seen.in_flight += 1
            seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)

    def leave(self) -> None:
        """The request is answered, or given up."""
        with self.server.lock:
            self.server.seen.in_flight -= self._answering
            self._answering = False

    def reset(self) -> None:
        """Closes with a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_close(self) -> None:
        """Until the client goes away, saying nothing."""
        with contextlib.suppress(OSError):
            while self.sock.recv(4096):
                pass

    def request(self) -> bytes:
        """The next complete request; b"" where the client is gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65_536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        while len(body) < length:
            piece = self.sock.recv(1 << 20)
            if not piece:
                return b""
            body += piece
        return head + b"\r\n\r\n" + body


#: answers one request; returning keeps the connection open, raising ends it
Script = Callable[[Peer], None]


class ScriptedServer:
    """Listens at once; `script` answers every request."""

    def __init__(self, script: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.seen = Seen()
        self._tls = tls
        self.lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind((host, 0))
        self._listener.listen(1024)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._peers: list[Peer] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        """Ends every connection and waits for the threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._listener.accept()
            except OSError:
                return
            self.seen.accepted_ns.append(monotonic_ns())
            peer = Peer(self, sock, address[1])
            self._peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._tls is not None:
                peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
            while request := peer.request():
                peer.enter(request)
                try:
                    self.script(peer)
                finally:
                    peer.leave()
                if b"connection: close" in request.lower():
                    break
        except (OSError, EndConnection):
            pass
        self.seen.closed_ns.append(monotonic_ns())
        peer.sock.close()


class EndConnection(Exception):
    """Raised by a script: close this connection now."""


@contextlib.contextmanager
def scripted_server(
    script: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[ScriptedServer]:
    """A scripted server for the length of a with block."""
    server = ScriptedServer(script, host, tls)
    try:
        yield server
    finally:
        server.close()
