"""Blocks of several requests, written as they come, read back request by request."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench_runner.load.connection import Connection
from bench_runner.load.spool import COMPLETE, CONNECT, TIMEOUT, SpoolReader, SpoolWriter

Read = tuple[int, bytes]


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    made = [Connection(socket.AF_INET) for _ in range(4)]
    yield made
    for connection in made:
        connection.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(reads=st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=50), st.booleans()), max_size=40))
def test_interleaved_requests_are_told_apart(
    tmp_path: Path, connections: list[Connection], reads: list[tuple[int, bytes, bool]]
) -> None:
    writer = SpoolWriter(tmp_path, 4)
    for position, connection in enumerate(connections):
        connection.begin(position, scheduled_ns=100 + position)
        connection.sent_ns = 200 + position
    for moment, (position, data, flush) in enumerate(reads):
        connections[position].keep(data, 1000 + moment, 900 + moment)
        if flush:
            writer.append(connections[position])
    for connection in connections:
        writer.append(connection, COMPLETE, 5000)
    with SpoolReader(tmp_path) as reader:
        for position in range(4):
            blocks = reader.blocks(position)
            mine = [(1000 + moment, data) for moment, (owner, data, _) in enumerate(reads) if owner == position]
            assert b"".join(block.body for block in blocks) == b"".join(data for _, data in mine)
            assert [stamp for block in blocks for stamp in block.user_ns] == [stamp for stamp, _ in mine]
            assert [stamp for block in blocks for stamp in block.kernel_ns] == [stamp - 100 for stamp, _ in mine]
            assert [length for block in blocks for length in block.lengths] == [len(data) for _, data in mine]
            assert (blocks[-1].scheduled_ns, blocks[-1].sent_ns) == (100 + position, 200 + position)
            assert (blocks[-1].ending, blocks[-1].ended_ns) == (COMPLETE, 5000)


def test_a_request_that_was_never_over_has_no_blocks(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 2)
    connections[0].begin(0, 1)
    connections[0].keep(b"half", 2, 0)
    writer.append(connections[0])
    with SpoolReader(tmp_path) as reader:
        assert reader.blocks(0) == reader.blocks(1) == []


def test_error_text_is_kept(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 2)
    connections[0].begin(1, 1)
    writer.append(connections[0], CONNECT, 9, "Connection refused – für jetzt")
    connections[0].begin(0, 1)
    writer.append(connections[0], TIMEOUT, 9, "x" * 5000)
    with SpoolReader(tmp_path) as reader:
        assert reader.blocks(1)[0].error == "Connection refused – für jetzt"
        assert reader.blocks(0)[0].error == "x" * 2000


def test_the_connect_time_belongs_to_the_first_request(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 2)
    connection = connections[0]
    connection.connect_ns = 77
    connection.begin(0, 1)
    writer.append(connection, COMPLETE, 9)
    connection.rest()
    connection.begin(1, 1)
    writer.append(connection, COMPLETE, 9)
    with SpoolReader(tmp_path) as reader:
        first, second = reader.blocks(0)[0], reader.blocks(1)[0]
    assert (first.connect_ns, first.first) == (77, 1)
    assert (second.connect_ns, second.first) == (0, 0)


def test_damage_is_noticed(tmp_path: Path, connections: list[Connection]) -> None:
    writer = SpoolWriter(tmp_path, 1)
    connections[0].begin(0, 1)
    connections[0].keep(b"something", 2, 0)
    writer.append(connections[0], COMPLETE, 9)
    os.truncate(tmp_path / "captures.bin", 100)
    with SpoolReader(tmp_path) as reader, pytest.raises(ValueError, match="damaged at byte 0"):
        reader.blocks(0)
