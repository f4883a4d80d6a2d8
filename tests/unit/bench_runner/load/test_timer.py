"""A timer that is readable from its instant on, and not before."""

from __future__ import annotations

import os
import select

from bench_runner.load.timer import Timer
from engines.clock import monotonic_ns


def test_it_fires_at_its_instant() -> None:
    timer = Timer()
    at_ns = monotonic_ns() + 30_000_000
    timer.arm(at_ns)
    select.select([timer.fd], [], [])
    assert monotonic_ns() >= at_ns
    timer.drain()
    assert timer.armed_ns == 0
    assert select.select([timer.fd], [], [], 0) == ([], [], [])
    os.close(timer.fd)


def test_the_past_fires_at_once() -> None:
    timer = Timer()
    timer.arm(1)
    assert select.select([timer.fd], [], [], 5) == ([timer.fd], [], [])
    os.close(timer.fd)


def test_a_later_instant_takes_the_place_of_an_earlier_one() -> None:
    timer = Timer()
    timer.arm(1)
    timer.arm(monotonic_ns() + 3_600_000_000_000)
    timer.drain()
    assert select.select([timer.fd], [], [], 0) == ([], [], [])
    assert timer.armed_ns > 1
    os.close(timer.fd)
