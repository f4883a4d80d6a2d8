"""Poisson however many processes send it: 20 seeds of 2,400 requests at 60 a second, dealt as load processes are dealt.

Each process opens the plan file that the worker wrote and draws its part as `bench_runner.load.child` does; time is the
test's own, so that hours of sending take seconds. One test at the end sends for real.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from bench_runner.load.child import make_schedule
from bench_runner.load.contract import RunControl
from bench_runner.load.fleet import drive_fleet
from bench_runner.load.planfile import open_plan, write_plan
from bench_runner.load.positions import open_shared
from bench_runner.plan.arrival import schedule
from bench_runner.plan.spec import Poisson
from tests.integration.load.plans import make_plan
from tests.integration.load.scripted import CHUNK, LAST_CHUNK, SSE_HEAD, scripted_server
from tests.unit.bench_runner.plan.test_arrival import correlation, dispersion, gaps_of, kolmogorov_smirnov

RATE, REQUESTS, SEEDS = 60.0, 2_400, range(20)
START_NS = 1_000_000_000
#: with a cap the slots are dealt instead of the requests; this one is never reached
CAP = 2_400


class Sending(NamedTuple):
    """What one seed's processes send."""

    #: by process: position and moment, ns from the window's start
    shares: list[list[tuple[int, int]]]
    planned_ns: list[int]

    @property
    def seconds(self) -> list[float]:
        """When requests leave, whoever sends them."""
        return sorted(due_ns / 1e9 for share in self.shares for _, due_ns in share)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A plan or positions file by its descriptor."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def send(folder: Path, seed: int, processes: int, cap: int | None = None) -> Sending:
    """Every process takes what is due at each moment, until all is over."""
    drawn = schedule(Poisson(rate_per_s=RATE, max_concurrency=cap), REQUESTS, seed=seed, repeat=0, attempt=1)
    assert drawn.offsets_ns is not None
    plan = make_plan(folder, 1, REQUESTS, offsets_ns=drawn.offsets_ns, concurrency=drawn.concurrency)
    shares: list[list[tuple[int, int]]] = [[] for _ in range(processes)]
    positions_fd = open_shared(folder, REQUESTS)
    try:
        with opened(write_plan(plan)) as plan_fd:
            parts = [make_schedule(open_plan(plan_fd), positions_fd, rank, processes) for rank in range(processes)]
            for part in parts:
                part.open(START_NS)
            while moments := [part.next_ns for part in parts if not part.over and part.next_ns is not None]:
                now_ns = min(moments)
                for share, part in zip(shares, parts, strict=True):
                    part.mark(now_ns)
                    while part.sendable:
                        position, due_ns = part.take()
                        assert due_ns <= now_ns
                        share.append((position, due_ns - START_NS))
                        part.release(position, now_ns)
    finally:
        os.close(positions_fd)
    return Sending(shares, list(drawn.offsets_ns))


@pytest.mark.parametrize("cap", [None, CAP])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_poisson_at_scale(tmp_path: Path, processes: int, cap: int | None) -> None:
    sendings = [send(tmp_path, seed, processes, cap) for seed in SEEDS]
    for sending in sendings:
        sent = sorted(one for share in sending.shares for one in share)
        assert sent == list(enumerate(sending.planned_ns)), "each request once, at its own moment"
        if cap is None:
            assert {len(share) for share in sending.shares} == {REQUESTS // processes}
    seconds = [sending.seconds for sending in sendings]
    gaps = [gaps_of(moments) for moments in seconds]

    assert 0.95 <= statistics.fmean(dispersion(moments, 0.1) for moments in seconds) <= 1.05
    assert kolmogorov_smirnov([gap for of_seed in gaps for gap in of_seed], RATE) < 1.63, "one in a hundred is above"
    assert max(kolmogorov_smirnov(of_seed, RATE) for of_seed in gaps) < 1.95, "one seed in a thousand is above"
    assert abs(statistics.fmean(correlation(of_seed) for of_seed in gaps)) < 0.02
    pairs = [pair for of_seed in gaps for pair in pairwise(of_seed)]
    assert len(set(pairs)) == len(pairs) == len(SEEDS) * (REQUESTS - 1), "no sequence of gaps comes twice"


@pytest.mark.parametrize("processes", [2, 4])
def test_no_process_repeats_the_gaps_of_another(tmp_path: Path, processes: int) -> None:
    """What befalls a tool whose processes each draw with one seed: 2,400 requests with a tenth of the gaps."""
    for seed in SEEDS:
        shares = send(tmp_path, seed, processes).shares
        gaps = [gap for share in shares for gap in gaps_of([due_ns / 1e9 for _, due_ns in share])]
        assert len(set(gaps)) == len(gaps) == REQUESTS


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_sent_for_real(tmp_path: Path, processes: int) -> None:
    drawn = schedule(Poisson(rate_per_s=400.0), 200, seed=7, repeat=0, attempt=1).offsets_ns
    assert drawn is not None
    with scripted_server(lambda peer: peer.send(SSE_HEAD + CHUNK + LAST_CHUNK)) as server:
        plan = make_plan(tmp_path / "spool", server.port, 200, offsets_ns=drawn, processes=processes)
        outcome = drive_fleet(plan, RunControl())
        captures = list(outcome.captures())
    assert outcome.processes == processes
    assert [capture.scheduled_ns - outcome.window_start_ns for capture in captures] == list(drawn)
    assert {capture.process for capture in captures} == set(range(processes))
    assert all(capture.sent_ns >= capture.scheduled_ns for capture in captures)
    assert len(server.seen.requests) == len(set(server.seen.requests)) == 200
