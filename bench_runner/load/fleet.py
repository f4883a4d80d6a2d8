"""One schedule, as many load processes as it needs, one outcome.

The processes share nothing while they run but the plan's file, the counter they draw from and the instant they begin:
what a fleet over several machines will have to bring. Records do not tell how many there were.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left

from bench_runner.errors import LoadFailed
from bench_runner.load.check import check_plan
from bench_runner.load.contract import LoadOutcome, LoadPlan, RunControl
from bench_runner.load.outcome import join_outcomes, salvage
from bench_runner.load.process import carry_out, folder_of

#: streams that one process is given: at 50 events/s each they take about half of one core
STREAMS_EACH = 1_000
#: requests/s that one process is given, connections included
REQUESTS_PER_S_EACH = 1_000
#: without a cap, a request is taken to be in flight for so long
STAY_NS = 10_000_000_000
_SECOND_NS = 1_000_000_000


def drive_fleet(plan: LoadPlan, control: RunControl) -> LoadOutcome:
    """Carries out `plan` in processes of their own and returns once the window of all is over.

    The spool folder is the caller's: it must outlive the outcome's captures.

    Raises:
        LoadFailed: a load process could not be started, died, or could not do its work. Then none is left running.
    """
    size = choose_processes(plan, len(os.sched_getaffinity(0)))
    check_plan(plan, size)
    folders = [folder_of(plan.spool, rank) for rank in range(size)]
    try:
        outcomes = carry_out(plan, size, control)
    except LoadFailed as failure:
        failure.captures = lambda: salvage(plan, folders)
        raise
    return join_outcomes(plan, outcomes, folders)


def choose_processes(plan: LoadPlan, cores: int) -> int:
    """How many processes the planned load needs: those the plan asks for, else what the cores allow.

    One core is left to whatever else runs here. No process is without a request.
    """
    requests = max(1, len(plan.requests))
    if plan.processes is not None:
        return max(1, min(plan.processes, requests))
    streams, per_s = requests, 0
    if plan.offsets_ns is not None:
        streams, per_s = _most_within(plan.offsets_ns, STAY_NS), _most_within(plan.offsets_ns, _SECOND_NS)
    streams = min(streams, plan.concurrency or streams)
    wanted = max(-(-streams // STREAMS_EACH), -(-per_s // REQUESTS_PER_S_EACH))
    return max(1, min(wanted, cores - 1, requests))


def _most_within(offsets_ns: array[int], span_ns: int) -> int:
    """The most requests that fall into any `span_ns`."""
    return max(
        (k + 1 - bisect_left(offsets_ns, offset - span_ns + 1) for k, offset in enumerate(offsets_ns)), default=0
    )
