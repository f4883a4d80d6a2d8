"""Messages and counters between worker and load process."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_runner.load.channel import (
    NEVER_NS,
    Counters,
    Outcome,
    pack_deadline,
    pack_outcome,
    pack_start,
    unpack_instant,
    unpack_outcome,
)


@pytest.mark.parametrize(("deadline_ns", "read"), [(123, 123), (None, NEVER_NS)])
def test_deadlines(deadline_ns: int | None, read: int) -> None:
    assert unpack_instant(pack_deadline(deadline_ns)) == read


def test_starts() -> None:
    assert unpack_instant(pack_start(2**50)) == 2**50


def test_outcomes() -> None:
    outcome = Outcome(1, 2, 3, 4, -1, 1, 7, 8, -1, 10, 11, 2)
    assert unpack_outcome(pack_outcome(outcome)) == outcome


def test_counters_are_shared(tmp_path: Path) -> None:
    reader = Counters(tmp_path, create=True)
    assert reader.load() == (0, 0, 0, 0)
    Counters(tmp_path).store(4, 3, 2, 2**40)
    assert reader.load() == (4, 3, 2, 2**40)
