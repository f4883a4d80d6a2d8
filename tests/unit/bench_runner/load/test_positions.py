"""Positions are drawn each once, in order, by one or by several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench_runner.load.positions import OwnPositions, SharedPositions, open_shared


def test_own_positions() -> None:
    positions = OwnPositions(2)
    assert (positions.draw(), positions.exhausted) == (0, False)
    assert (positions.draw(), positions.exhausted) == (1, True)
    assert positions.draw() is None


def test_shared_positions_have_no_name(tmp_path: Path) -> None:
    fd = open_shared(tmp_path, 2)
    try:
        first, second = SharedPositions(fd), SharedPositions(fd)
        assert (first.draw(), second.exhausted) == (0, False)
        assert (second.draw(), first.exhausted) == (1, True)
        assert (first.draw(), second.draw()) == (None, None)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(fd)


DRAW_ALL = """
import sys
from bench_runner.load.positions import SharedPositions
positions = SharedPositions(int(sys.argv[1]))
drawn = []
while (position := positions.draw()) is not None:
    drawn.append(position)
print(*drawn)
"""


@pytest.mark.parametrize("processes", [1, 3])
def test_several_processes_draw_each_position_once(tmp_path: Path, processes: int) -> None:
    fd = open_shared(tmp_path, 20_000)
    try:
        started = [
            subprocess.Popen([sys.executable, "-c", DRAW_ALL, str(fd)], pass_fds=(fd,), stdout=subprocess.PIPE)
            for _ in range(processes)
        ]
        drawn = [[int(position) for position in process.communicate()[0].split()] for process in started]
    finally:
        os.close(fd)
    assert sorted(position for mine in drawn for position in mine) == list(range(20_000))
    assert all(mine == sorted(mine) for mine in drawn)
