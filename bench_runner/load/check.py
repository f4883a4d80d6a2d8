"""Refuses a load that cannot be carried out, before anything is started."""

from __future__ import annotations

import itertools
import resource
from bisect import bisect_right

from bench_runner.errors import LoadFailed
from bench_runner.load.contract import LoadPlan
from bench_runner.load.schedule import OPEN_AHEAD_NS

#: files a load process has open beside its connections
SPARE_FILES = 32


def check_plan(plan: LoadPlan, processes: int = 1) -> None:
    """Refuses a plan that `processes` load processes cannot carry out.

    Raises:
        LoadFailed: nothing to send, arrays that do not fit, no certificates where some are named, or more connections
            than files may be open.
    """
    if not plan.requests:
        raise LoadFailed("the plan has no request", field="workload.requests")
    if plan.offsets_ns is None and plan.concurrency is None:
        raise LoadFailed("a closed loop needs its concurrency", field="workload.arrival.concurrency")
    if plan.offsets_ns is not None:
        offsets = plan.offsets_ns
        if len(offsets) != len(plan.requests) or any(b < a for a, b in itertools.pairwise(offsets)):
            raise LoadFailed("offsets must be as many as requests and must not fall", field="workload.arrival")
    if plan.think_ns is not None and (plan.offsets_ns is not None or len(plan.think_ns) != len(plan.requests)):
        raise LoadFailed(
            "think times belong to a closed loop, and must be as many as its requests", field="workload.arrival"
        )
    _check_authorities(plan)
    _check_files(plan, processes)


def _check_authorities(plan: LoadPlan) -> None:
    if plan.ca_file is None:
        return
    from bench_runner.load.tls import client_context  # OpenSSL is loaded only where it is needed

    try:
        client_context(str(plan.ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise LoadFailed(
            f"{plan.ca_file} is not a file of certificates that can be read: {error}", field="target.ca_file"
        ) from error


def _check_files(plan: LoadPlan, processes: int) -> None:
    at_once = len(plan.requests) if plan.offsets_ns is None else bisect_right(plan.offsets_ns, OPEN_AHEAD_NS)
    most = -(-min(at_once, plan.concurrency or at_once) // processes)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or most + SPARE_FILES <= hard:
        return
    field = "workload.requests"
    if plan.concurrency is not None:
        field = f"workload.arrival.{'concurrency' if plan.offsets_ns is None else 'max_concurrency'}"
    raise LoadFailed(
        f"{most} connections need {most + SPARE_FILES} open files, but no more than {hard} are allowed "
        "(RLIMIT_NOFILE, hard limit): raise it (`ulimit -Hn`, LimitNOFILE=) or lower the load",
        field=field,
    )
