"""The spool: what the load process kept, appended to its files in batches while the run goes on.

Three files. Captures: the bytes of every read, in the order in which reads came, whatever request they belong to.
Reads: a row for each read, chained backwards to the request's read before. Index: a record for each request at its
place, which names the last read of one that is over. So a read costs the load process one entry of a list, nothing is
remembered of a finished request, and what came up to a crash can be read back.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench_runner.load.connection import Connection

CAPTURES_FILE = "captures.bin"
READS_FILE = "reads.bin"
INDEX_FILE = "index.bin"

#: how a request ended, as `Capture.ended` has it; the position is the code in a record, 0 for one that is not over
ENDINGS = ("", "complete", "eof", "reset", "timeout", "connect", "cancelled", "malformed")
COMPLETE, EOF, RESET, TIMEOUT, CONNECT, CANCELLED, MALFORMED = range(1, 8)

#: reads that are held before they are written: few, so that a batch takes well under a millisecond
HOLD_READS = 256
#: int64 in a row: row of the request's read before (-1: none), position of the request, user stamp, kernel stamp
#: (0: none), where its bytes begin in the captures file, how many they are
ROW = 6
#: in the index: written, ending, first request on its connection, sent by the kernel's stamp; local port, resends; last
#: read's row (-1: none); scheduled, sent, connect time, ended, longest wait (ns); where the error text is in the
#: captures file, its bytes
RECORD = struct.Struct("=BBBBHHqqqqqqqq")
_NO_STAMP = bytes(16)
#: mapped pages are given back after so many bytes were read
_MAPPED_BYTES = 16 << 20

#: what one `recvmsg` brought: position of the request, user stamp, ancillary data, bytes
Read = tuple[int, int, list[tuple[int, int, bytes]], bytes]


class SpoolWriter:
    """Takes reads and requests, and appends them to the files at each `flush`; used by the load process only."""

    def __init__(self, folder: Path, requests: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._captures = os.open(folder / CAPTURES_FILE, flags, 0o600)
        self._rows = os.open(folder / READS_FILE, flags, 0o600)
        self._index = os.open(folder / INDEX_FILE, flags, 0o600)
        os.truncate(self._index, RECORD.size * requests)
        #: reads that wait for the next flush
        self.reads: list[Read] = []
        #: records that wait for it, by position, without the last read and the place of the error text
        self._records: dict[int, tuple[tuple[int, ...], tuple[int, ...], bytes]] = {}
        #: row of the latest read of each request that is not over
        self._latest: dict[int, int] = {}
        self._row_count = 0
        self._captured_bytes = 0
        #: bytes of responses that were written
        self.received_bytes = 0
        #: worst gap between a kernel stamp and our reading; -1: no kernel stamps
        self.max_lag_ns = -1

    def note(self, connection: Connection, ending: int = 0, ended_ns: int = 0, error: str = "") -> None:
        """Notes what is known of the connection's request; with an ending it is over."""
        self._records[connection.position] = (
            (
                1,
                ending,
                connection.served == 0,
                connection.sent_kernel_ns != 0,
                connection.local_port,
                connection.resends,
            ),
            (
                connection.scheduled_ns,
                connection.sent_kernel_ns or connection.sent_ns,
                connection.connect_ns if connection.served == 0 else 0,
                ended_ns,
                connection.waited_ns,
            ),
            error.encode(errors="replace")[:2000],
        )

    def flush(self, offset_ns: int) -> None:
        """Writes what waits: bytes first, then what refers to them. `offset_ns`: wall clock minus monotonic clock.

        Raises:
            OSError: the disk is full or broken.
        """
        if self.reads:
            self._write_reads(offset_ns)
        for position, (state, stamps, error) in self._records.items():
            error_at = self._captured_bytes
            if error:
                _write(self._captures, error)
                self._captured_bytes += len(error)
            last = self._latest.pop(position, -1) if state[1] else -1
            os.pwrite(self._index, RECORD.pack(*state, last, *stamps, error_at, len(error)), RECORD.size * position)
        self._records.clear()

    def _write_reads(self, offset_ns: int) -> None:
        positions, user_ns, ancillaries, pieces = zip(*self.reads, strict=True)
        self.reads.clear()
        kernel_ns = _kernel_stamps(ancillaries, offset_ns)
        lag_ns = max((user - kernel for user, kernel in zip(user_ns, kernel_ns, strict=True) if kernel), default=-1)
        self.max_lag_ns = max(self.max_lag_ns, lag_ns)
        lengths = [len(piece) for piece in pieces]
        places = list(accumulate(lengths, initial=self._captured_bytes))
        latest, before = self._latest, []
        for row, position in enumerate(positions, self._row_count):
            before.append(latest.get(position, -1))
            latest[position] = row
        rows = array("q", bytes(8 * ROW * len(positions)))
        for column, values in enumerate((before, positions, user_ns, kernel_ns, places[:-1], lengths)):
            rows[column::ROW] = array("q", values)
        _write(self._captures, b"".join(pieces))
        _write(self._rows, rows.tobytes())
        self._row_count += len(positions)
        self.received_bytes += places[-1] - self._captured_bytes
        self._captured_bytes = places[-1]


def _kernel_stamps(ancillaries: tuple[list[tuple[int, int, bytes]], ...], offset_ns: int) -> list[int]:
    """Stamps on our clock; 0 where the kernel gave none. The only message a read can bring is its stamp, a timespec."""
    stamps = b"".join([messages[0][2] if messages else _NO_STAMP for messages in ancillaries])
    if len(stamps) != len(_NO_STAMP) * len(ancillaries):
        # Something else than a stamp came. Whose it is would not be known, and every stamp behind it be another's.
        found = [messages[0][2] if messages else b"" for messages in ancillaries]
        stamps = b"".join([stamp if len(stamp) == len(_NO_STAMP) else _NO_STAMP for stamp in found])
    halves = iter(array("q", stamps))
    return [
        seconds * 1_000_000_000 + nanoseconds - offset_ns if seconds else 0
        for seconds, nanoseconds in zip(halves, halves, strict=True)
    ]


def _write(fd: int, data: bytes) -> None:
    """All of it: a short write goes on until the reason shows as an error."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


class Kept(NamedTuple):
    """What the spool has of one request."""

    #: position in ENDINGS; 0: the load process died before it was over
    ending: int
    #: the first on its connection
    first: int
    kernel_sent: int
    local_port: int
    resends: int
    scheduled_ns: int
    sent_ns: int
    connect_ns: int
    ended_ns: int
    waited_ns: int
    error: str
    user_ns: array[int]
    kernel_ns: array[int]
    lengths: array[int]
    body: bytes


class SpoolReader:
    """Reads requests back, one at a time. A context manager: it holds open files."""

    def __init__(self, folder: Path) -> None:
        self._index = os.open(folder / INDEX_FILE, os.O_RDONLY)
        try:
            self._captures = _map(folder / CAPTURES_FILE)
            self._rows = _map(folder / READS_FILE)
        except BaseException:
            os.close(self._index)
            raise
        #: whole rows as integers, `ROW` each
        self._cells = memoryview(self._rows)[: len(self._rows) // (8 * ROW) * 8 * ROW].cast("q")
        self._touched_bytes = 0
        #: latest row of each request, found by looking at all; `None`: nobody asked
        self._found: dict[int, int] | None = None

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._index)
        self._cells.release()
        for mapped in (self._rows, self._captures):
            if isinstance(mapped, mmap.mmap):
                mapped.close()

    def request(self, position: int) -> Kept | None:
        """What there is of the request at `position`; `None`: it was never sent, as far as the spool knows.

        Raises:
            ValueError: the spool is damaged.
        """
        record = os.pread(self._index, RECORD.size, RECORD.size * position)
        if not any(record[:1]):
            return None
        (_, ending, first, kernel_sent, port, resends, last, scheduled, sent, connect, ended, waited, error_at,
         error_size) = RECORD.unpack(record)  # fmt: skip
        if not ending:
            last = self._latest_rows().get(position, -1)
        error = self._bytes(error_at, error_size).decode(errors="replace")
        cells = self._reads(last)
        user_ns, kernel_ns, places, lengths = (cells[column::ROW] for column in range(2, ROW))
        body = self._joined(places, lengths)
        self._give_back(len(body))
        return Kept(ending, first, kernel_sent, port, resends, scheduled, sent, connect, ended, waited, error,
                    user_ns, kernel_ns, lengths, body)  # fmt: skip

    def _reads(self, row: int) -> array[int]:
        """The rows of a request up to that in `row`, in the order of its reads, one behind the other."""
        rows, cells, found = self._rows, self._cells, []
        while row >= 0:
            at = ROW * row
            try:
                before = cells[at]
            except IndexError:
                before = row
            if before >= row:
                raise ValueError(f"the spool is damaged at read {row}")
            found.append(rows[8 * at : 8 * (at + ROW)])
            row = before
        found.reverse()
        return array("q", b"".join(found))

    def _joined(self, places: array[int], lengths: array[int]) -> bytes:
        captures = self._captures
        body = b"".join([captures[at : at + size] for at, size in zip(places, lengths, strict=True)])
        if len(body) != sum(lengths):
            for at, size in zip(places, lengths, strict=True):
                self._bytes(at, size)
        return body

    def _bytes(self, at: int, size: int) -> bytes:
        data = self._captures[at : at + size]
        if len(data) < size:
            raise ValueError(f"the spool is damaged at byte {at}")
        return data

    def _latest_rows(self) -> dict[int, int]:
        if self._found is None:
            self._found = {position: row for row, position in enumerate(self._cells[1::ROW])}
        return self._found

    def _give_back(self, size: int) -> None:
        """Pages stay in the page cache, but not in this process: it does not grow with the spool."""
        self._touched_bytes += size
        if self._touched_bytes >= _MAPPED_BYTES:
            self._touched_bytes = 0
            for mapped in (self._rows, self._captures):
                if isinstance(mapped, mmap.mmap):
                    mapped.madvise(mmap.MADV_DONTNEED)


def _map(path: Path) -> mmap.mmap | bytes:
    """A file's bytes; an empty one cannot be mapped."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
