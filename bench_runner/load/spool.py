"""The spool: what the load process kept, in blocks appended to one file while the run goes on.

A block holds some reads of one request: header, user stamps, kernel stamps, lengths (int64 each), the bytes read, error
text. Blocks of one request are chained backwards; the index file holds the place of each request's last, final block.
So the load process remembers nothing of a finished request, and reading back is one chain after the other.
"""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench_runner.load.connection import Connection

CAPTURES_FILE = "captures.bin"
INDEX_FILE = "index.bin"

#: how a request ended, as `Capture.ended` has it; the position is the code in a block, 0 for a block that is not final
ENDINGS = ("", "complete", "eof", "reset", "timeout", "connect", "cancelled", "malformed")
COMPLETE, EOF, RESET, TIMEOUT, CONNECT, CANCELLED, MALFORMED = range(1, 8)

_MAGIC = 0x45424C4B
#: magic, position, place of the previous block (-1: none), reads, bytes, scheduled, sent, connect time, ended (ns),
#: local port, resends, ending, first request on its connection, sent by the kernel's stamp, bytes of error text
HEADER = struct.Struct("=IIqqqqqqqHHHHHI")


#: in the index: place of a request's final block, plus one; 0: it was never over
_PLACE = struct.Struct("=q")


class SpoolWriter:
    """Appends blocks; used by the load process only."""

    def __init__(self, folder: Path, requests: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._fd = os.open(folder / CAPTURES_FILE, flags, 0o600)
        self._index = os.open(folder / INDEX_FILE, flags, 0o600)
        os.truncate(self._index, 8 * requests)
        self._end = 0

    def append(self, connection: Connection, ending: int = 0, ended_ns: int = 0, error: str = "") -> None:
        """Writes what `connection` holds of its request and empties it; with an ending, the request is over.

        Raises:
            OSError: the disk is full or broken.
        """
        text = error.encode(errors="replace")[:2000]
        header = HEADER.pack(
            _MAGIC,
            connection.position,
            connection.last_block,
            len(connection.user_ns),
            len(connection.body),
            connection.scheduled_ns,
            connection.sent_kernel_ns or connection.sent_ns,
            connection.connect_ns if connection.served == 0 else 0,
            ended_ns,
            connection.local_port,
            connection.resends,
            ending,
            connection.served == 0,
            connection.sent_kernel_ns != 0,
            len(text),
        )
        parts = (header, connection.user_ns, connection.kernel_ns, connection.lengths, connection.body, text)
        size = len(header) + 24 * len(connection.user_ns) + len(connection.body) + len(text)
        written = os.writev(self._fd, parts)
        if written < size:
            self._write_rest(b"".join(bytes(part) for part in parts)[written:])
        connection.last_block = self._end
        if ending:
            os.pwrite(self._index, _PLACE.pack(self._end + 1), 8 * connection.position)
        self._end += size
        connection.forget_reads()

    def _write_rest(self, rest: bytes) -> None:
        """A short write: go on until all is written or the reason shows as an error."""
        while rest:
            rest = rest[os.write(self._fd, rest) :]


class Block:
    """One block, read back."""

    __slots__ = ("body", "connect_ns", "ended_ns", "ending", "error", "first", "kernel_ns", "kernel_sent", "lengths",
                 "local_port", "previous", "resends", "scheduled_ns", "sent_ns", "user_ns")  # fmt: skip

    def __init__(self, fd: int, place: int) -> None:
        (
            magic,
            _,
            self.previous,
            reads,
            size,
            self.scheduled_ns,
            self.sent_ns,
            self.connect_ns,
            self.ended_ns,
            self.local_port,
            self.resends,
            self.ending,
            self.first,
            self.kernel_sent,
            error_size,
        ) = HEADER.unpack(os.pread(fd, HEADER.size, place))
        data = os.pread(fd, 24 * reads + size + error_size, place + HEADER.size)
        if magic != _MAGIC or len(data) < 24 * reads + size + error_size:
            raise ValueError(f"the spool is damaged at byte {place}")
        width = 8 * reads
        self.user_ns = array("q", data[:width])
        self.kernel_ns = array("q", data[width : 2 * width])
        self.lengths = array("q", data[2 * width : 3 * width])
        self.body = data[3 * width : 3 * width + size]
        self.error = data[3 * width + size :].decode(errors="replace")


class SpoolReader:
    """Reads requests back, one at a time. A context manager: it holds two open files."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / CAPTURES_FILE, os.O_RDONLY)
        self._index = os.open(folder / INDEX_FILE, os.O_RDONLY)

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        os.close(self._index)

    def blocks(self, position: int) -> list[Block]:
        """Blocks of the request at `position`, in the order of its reads; empty where it was never over."""
        place = _PLACE.unpack(os.pread(self._index, 8, 8 * position))[0] - 1
        blocks: list[Block] = []
        while place >= 0:
            blocks.append(Block(self._fd, place))
            place = blocks[-1].previous
        blocks.reverse()
        return blocks
