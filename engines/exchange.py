"""One request over one blocking socket, kept as a Capture: a probe sees exactly what a run would see."""

from __future__ import annotations

import socket
import ssl
from array import array
from collections.abc import Callable

from engines.clock import monotonic_ns
from engines.contract import Capture, Origin, WireRequest
from engines.dialects.http1 import ResponseFramer

#: How often a silent connection is left to ask whether to go on.
_PATIENCE_S = 0.25

#: A probe's answer is a few kilobytes; a server that sends more is not answering the question.
_MOST_RESPONSE_BYTES = 16 << 20


def exchange(
    origin: Origin, wire: WireRequest, *, timeout_s: float, should_stop: Callable[[], bool] = lambda: False
) -> Capture:
    """Sends the request on a fresh connection and reads its response until the framing says it is whole.

    Never raises for what the network or the server does: `Capture.ended` says how it went.
    """
    started_ns = monotonic_ns()
    deadline_ns = started_ns + int(timeout_s * 1e9)
    reads = _Reads()
    try:
        connection = _connect(origin, timeout_s)
    except OSError as error:
        ended = "timeout" if isinstance(error, TimeoutError) else "connect"
        return reads.capture(wire.index, started_ns, 0, ended, f"{error}", 0.0, 0)
    connect_s = (monotonic_ns() - started_ns) / 1e9
    with connection:
        port = int(connection.getsockname()[1])
        sent_ns = monotonic_ns()
        try:
            connection.sendall(wire.payload)
            ended, error_text = _receive(connection, reads, deadline_ns, should_stop)
        except OSError as error:
            ended, error_text = "reset", f"{error}"
    return reads.capture(wire.index, started_ns, sent_ns, ended, error_text, connect_s, port)


class _Reads:
    """Bytes and stamps as they come."""

    def __init__(self) -> None:
        self.stamps_ns = array("q")
        self.sizes = array("q")
        self.body = bytearray()

    def add(self, data: bytes) -> None:
        self.stamps_ns.append(monotonic_ns())
        self.sizes.append(len(data))
        self.body += data

    def capture(
        self, index: int, started_ns: int, sent_ns: int, ended: str, error: str, connect_s: float, port: int
    ) -> Capture:
        return Capture(
            index=index,
            scheduled_ns=started_ns,
            sent_ns=sent_ns,
            sent_clock="user",
            connect_s=connect_s,
            local_port=port,
            process=0,
            resends=0,
            read_user_ns=self.stamps_ns,
            read_kernel_ns=array("q", bytes(8 * len(self.sizes))),
            read_bytes=self.sizes,
            body=bytes(self.body),
            ended=ended,
            ended_ns=monotonic_ns(),
            error=error,
        )


def _connect(origin: Origin, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((origin.address, origin.port), timeout=min(timeout_s, 10.0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if origin.scheme != "https":
        return connection
    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=origin.host)
    except OSError:
        connection.close()
        raise


def _receive(
    connection: socket.socket, reads: _Reads, deadline_ns: int, should_stop: Callable[[], bool]
) -> tuple[str, str]:
    """How the response ended, and the error text where it did not end well."""
    framer = ResponseFramer()
    connection.settimeout(_PATIENCE_S)
    while True:
        if should_stop():
            return "cancelled", "stopped from outside"
        if monotonic_ns() > deadline_ns:
            return "timeout", "no whole response in time"
        try:
            data = connection.recv(65536)
        except TimeoutError:
            continue
        if not data:
            return "eof", ""
        reads.add(data)
        if framer.feed(data):
            return ("complete", "") if framer.malformed is None else ("malformed", framer.malformed)
        if len(reads.body) > _MOST_RESPONSE_BYTES:
            return "malformed", "more than 16 MiB for one short generation"
