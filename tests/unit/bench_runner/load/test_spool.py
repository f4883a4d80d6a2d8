"""Reads of several requests, written in batches as they come, read back request by request."""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench_runner.load.captures import read_captures
from bench_runner.load.connection import SO_TIMESTAMPNS, Connection
from bench_runner.load.spool import COMPLETE, CONNECT, TIMEOUT, Read, SpoolReader, SpoolWriter

#: wall clock minus monotonic clock
OFFSET_NS = 1_700_000_000_000_000_000


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    made = [Connection(socket.AF_INET) for _ in range(4)]
    yield made
    for connection in made:
        connection.close()


def read_of(position: int, user_ns: int, kernel_ns: int | None, data: bytes) -> Read:
    """A read as `recvmsg` brings it, its stamp in wall time; `None`: without one."""
    if kernel_ns is None:
        return position, user_ns, [], data
    stamp = struct.pack("@qq", *divmod(kernel_ns + OFFSET_NS, 1_000_000_000))
    return position, user_ns, [(socket.SOL_SOCKET, SO_TIMESTAMPNS, stamp)], data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    reads=st.lists(
        st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=50), st.booleans(), st.booleans()), max_size=40
    )
)
def test_interleaved_requests_are_told_apart(
    tmp_path: Path, connections: list[Connection], reads: list[tuple[int, bytes, bool, bool]]
) -> None:
    writer = SpoolWriter(tmp_path, 4)
    for position, connection in enumerate(connections):
        connection.begin(position, scheduled_ns=100 + position)
        connection.sent_ns = 200 + position
        writer.note(connection)
        connection.waited_ns = 300 + position
    for moment, (position, data, stamped, flush) in enumerate(reads):
        writer.reads.append(read_of(position, 1000 + moment, 900 + moment if stamped else None, data))
        if flush:
            writer.flush(OFFSET_NS)
    for connection in connections:
        writer.note(connection, COMPLETE, 5000)
    writer.flush(OFFSET_NS)
    assert writer.received_bytes == sum(len(data) for _, data, _, _ in reads)
    assert writer.max_lag_ns == (100 if any(stamped for _, _, stamped, _ in reads) else -1)
    with SpoolReader(tmp_path) as reader:
        for position in range(4):
            kept = reader.request(position)
            assert kept is not None
            mine = [
                (moment, data, stamped) for moment, (owner, data, stamped, _) in enumerate(reads) if owner == position
            ]
            assert kept.body == b"".join(data for _, data, _ in mine)
            assert list(kept.user_ns) == [1000 + moment for moment, _, _ in mine]
            assert list(kept.kernel_ns) == [900 + moment if stamped else 0 for moment, _, stamped in mine]
            assert list(kept.lengths) == [len(data) for _, data, _ in mine]
            assert (kept.scheduled_ns, kept.sent_ns, kept.waited_ns) == (100 + position, 200 + position, 300 + position)
            assert (kept.ending, kept.ended_ns) == (COMPLETE, 5000)


def test_a_request_that_was_never_sent_is_not_there(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, 2)
    writer.flush(OFFSET_NS)
    with SpoolReader(tmp_path) as reader:
        assert reader.request(0) is reader.request(1) is None


def test_what_came_up_to_a_crash_is_there(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 3)
    for position in (0, 1):
        connections[position].begin(position, 1)
        connections[position].sent_ns = 2
        writer.note(connections[position])
    for moment, (position, data) in enumerate([(0, b"ha"), (1, b"who"), (0, b"lf"), (1, b"le")]):
        writer.reads.append(read_of(position, 10 + moment, 5 + moment, data))
        writer.flush(OFFSET_NS)
    writer.note(connections[1], COMPLETE, 20)
    writer.flush(OFFSET_NS)
    # The process died while it wrote: a row is not whole, and nothing more was said of the first request.
    with (tmp_path / "reads.bin").open("ab") as file:
        file.write(b"\1" * 20)
    first, second, third = read_captures([tmp_path], array("q", range(3)), None, (0, 99))
    assert (first.body, first.ended, first.sent_ns, first.ended_ns) == (b"half", "cancelled", 2, 99)
    assert "died before this request was over" in first.error
    assert list(first.read_kernel_ns) == [5, 7]
    assert (second.body, second.ended, second.ended_ns) == (b"whole", "complete", 20)
    assert (third.ended, third.sent_ns) == ("cancelled", 0)


def test_a_request_may_take_another_s_connection(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 2)
    connection = connections[0]
    for position in (0, 1):
        connection.begin(position, 1)
        writer.note(connection)
        writer.reads.append(read_of(position, 10, 5, b"%d" % position))
        writer.note(connection, COMPLETE, 9)
    writer.flush(OFFSET_NS)
    with SpoolReader(tmp_path) as reader:
        assert [kept.body for position in (0, 1) if (kept := reader.request(position))] == [b"0", b"1"]


def test_error_text_is_kept(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 2)
    connections[0].begin(1, 1)
    writer.note(connections[0], CONNECT, 9, "Connection refused – für jetzt")
    writer.reads.append(read_of(0, 1, 1, b"bytes"))
    writer.flush(OFFSET_NS)
    connections[0].begin(0, 1)
    writer.note(connections[0], TIMEOUT, 9, "x" * 5000)
    writer.flush(OFFSET_NS)
    with SpoolReader(tmp_path) as reader:
        first, second = reader.request(0), reader.request(1)
    assert first is not None
    assert second is not None
    assert second.error == "Connection refused – für jetzt"
    assert (first.error, first.body) == ("x" * 2000, b"bytes")


def test_the_connect_time_belongs_to_the_first_request(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 2)
    connection = connections[0]
    connection.connect_ns = 77
    connection.begin(0, 1)
    writer.note(connection, COMPLETE, 9)
    connection.rest()
    connection.begin(1, 1)
    writer.note(connection, COMPLETE, 9)
    writer.flush(OFFSET_NS)
    with SpoolReader(tmp_path) as reader:
        first, second = reader.request(0), reader.request(1)
    assert first is not None
    assert second is not None
    assert (first.connect_ns, first.first) == (77, 1)
    assert (second.connect_ns, second.first) == (0, 0)


@pytest.mark.parametrize(("file", "size", "wrong"), [("captures.bin", 4, "at byte 0"), ("reads.bin", 40, "at read 0")])
def test_damage_is_noticed(tmp_path: Path, connections: list[Connection], file: str, size: int, wrong: str) -> None:
    writer = SpoolWriter(tmp_path, 1)
    connections[0].begin(0, 1)
    writer.reads.append(read_of(0, 2, None, b"something"))
    writer.note(connections[0], COMPLETE, 9)
    writer.flush(OFFSET_NS)
    os.truncate(tmp_path / file, size)
    with SpoolReader(tmp_path) as reader, pytest.raises(ValueError, match=f"damaged {wrong}"):
        reader.request(0)


def test_what_is_no_stamp_shifts_no_other(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 1)
    connections[0].begin(0, 1)
    strange = [(socket.SOL_SOCKET, 99, b"24 bytes of another kind")]
    writer.reads += [read_of(0, 9, 5, b"a"), (0, 9, strange, b"b"), read_of(0, 9, 7, b"c"), read_of(0, 9, None, b"d")]
    writer.note(connections[0], COMPLETE, 9)
    writer.flush(OFFSET_NS)
    with SpoolReader(tmp_path) as reader:
        kept = reader.request(0)
    assert kept is not None
    assert list(kept.kernel_ns) == [5, 0, 7, 0]


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: list[Connection]) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    writer = SpoolWriter(tmp_path, 1)
    connections[0].begin(0, 1)
    writer.reads.append(read_of(0, 2, 1, b"longer than seven bytes"))
    writer.note(connections[0], COMPLETE, 9)
    writer.flush(OFFSET_NS)
    with SpoolReader(tmp_path) as reader:
        kept = reader.request(0)
    assert kept is not None
    assert (kept.body, list(kept.kernel_ns)) == (b"longer than seven bytes", [1])
