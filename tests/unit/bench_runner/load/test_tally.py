"""Counts on their way to the worker, and a wall clock that is watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_runner.load import tally as module
from bench_runner.load.channel import Counters
from bench_runner.load.tally import STEP_NS, Tally


def test_counts_are_shown_when_published(tmp_path: Path) -> None:
    counters = Counters(tmp_path, create=True)
    tally = Tally(counters)
    tally.sent, tally.finished, tally.failed, tally.received_bytes = 5, 4, 1, 900
    assert counters.load() == (0, 0, 0, 0)
    tally.publish()
    assert counters.load() == (5, 4, 1, 900)


@pytest.mark.parametrize(
    ("moved_ns", "stepped"), [(0, False), (STEP_NS, False), (STEP_NS + 1, True), (-2 * STEP_NS, True)]
)
def test_a_wall_clock_that_was_set_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_ns: int, stepped: bool
) -> None:
    offset_ns = 10**18
    monkeypatch.setattr(module, "wall_offset_ns", lambda *_: offset_ns)
    tally = Tally(Counters(tmp_path, create=True))
    offset_ns += moved_ns
    tally.publish()
    offset_ns -= moved_ns
    tally.publish()
    assert tally.clock_stepped is stepped
