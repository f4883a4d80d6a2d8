"""What several load processes say of one window, joined."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_runner.load.captures import read_captures
from bench_runner.load.channel import WINDOW_ENDINGS, Outcome
from bench_runner.load.contract import LoadOutcome, LoadPlan
from bench_runner.load.host import PRIORITIES
from bench_runner.load.spool import INDEX_FILE
from engines.clock import monotonic_ns
from engines.contract import Capture


def join_outcomes(plan: LoadPlan, outcomes: Sequence[Outcome], folders: Sequence[Path]) -> LoadOutcome:
    """One outcome of all: sums where things add up, the worst where one is enough to spoil a measurement."""
    indexes = array("q", (request.index for request in plan.requests))
    offsets_ns = plan.offsets_ns
    window = min(outcome.start_ns for outcome in outcomes), max(outcome.end_ns for outcome in outcomes)
    lag_ns = max(outcome.max_lag_ns for outcome in outcomes)
    waits_ns = [outcome.cpu_wait_ns for outcome in outcomes]
    stolen_ms = max(outcome.stolen_ms for outcome in outcomes)
    peak_kib = max(outcome.peak_memory_kib for outcome in outcomes)

    def captures() -> Iterator[Capture]:
        return read_captures(folders, indexes, offsets_ns, window)

    return LoadOutcome(
        captures=captures,
        # Complete only where all are: in WINDOW_ENDINGS it comes first.
        ended=WINDOW_ENDINGS[max(outcome.ended for outcome in outcomes)],
        window_start_ns=window[0],
        window_end_ns=window[1],
        cpu_s=sum(outcome.cpu_ns for outcome in outcomes) / 1e9,
        wall_s=(window[1] - window[0]) / 1e9,
        max_lag_s=None if lag_ns < 0 else lag_ns / 1e9,
        clock_stepped=any(outcome.clock_stepped for outcome in outcomes),
        connections_opened=sum(outcome.connections_opened for outcome in outcomes),
        processes=len(outcomes),
        busiest_cpu_s=max(outcome.cpu_ns for outcome in outcomes) / 1e9,
        cpu_wait_s=None if min(waits_ns) < 0 else max(waits_ns) / 1e9,
        preemptions=sum(outcome.preemptions for outcome in outcomes),
        stolen_s=None if stolen_ms < 0 else stolen_ms / 1e3,
        peak_memory_bytes=None if peak_kib < 0 else peak_kib * 1024,
        priority=PRIORITIES[max(outcome.priority for outcome in outcomes)],
    )


def describe_load(outcome: LoadOutcome) -> dict[str, Any]:
    """What the load process did and what its host did to it, as plain JSON types: the counters that tell apart a slow
    client, a busy host and a slow engine. `None`: the kernel does not tell.
    """
    names = (
        "processes",
        "priority",
        "wall_s",
        "cpu_s",
        "busiest_cpu_s",
        "max_lag_s",
        "cpu_wait_s",
        "preemptions",
        "stolen_s",
        "clock_stepped",
        "connections_opened",
        "peak_memory_bytes",
    )
    return {name: getattr(outcome, name) for name in names}


def salvage(plan: LoadPlan, folders: Sequence[Path]) -> Iterator[Capture]:
    """Captures of a window that broke off, as far as its spools can be read: what was measured is not lost with it.

    In the order of the plan, those never sent included. Fewer than the plan's where a spool is damaged: whoever asks
    says how many are missing.
    """
    now = monotonic_ns()
    indexes = array("q", (request.index for request in plan.requests))
    readable = [folder for folder in folders if (folder / INDEX_FILE).is_file()]
    if not readable:
        return
    try:
        yield from read_captures(readable, indexes, plan.offsets_ns, (now, now))
    except (OSError, ValueError, struct.error):
        # The spool ends where the process did.
        return
