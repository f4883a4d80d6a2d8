"""A run's trace, told once it is over: nothing of it happens beside the load."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bench_runner.load.contract import RunControl
from engines.clock import monotonic_ns, wall_offset_ns
from services.domain.errors import ServiceError
from services.store.database import Database
from services.store.rows import ClaimedRun, Run
from services.store.runs import get_run
from services.telemetry.traces import RunTrace, Traces

log = logging.getLogger(__name__)


def trace_run(
    traces: Traces | None,
    database: Database,
    claimed: ClaimedRun,
    claimed_ns: int,
    control: RunControl,
    result: Mapping[str, Any],
) -> None:
    """Send the spans of a run whose result is handed in.

    Args:
        traces: `None`: nobody wants them.
        database: knows the target's name, and when the run was asked for.
        claimed: the run.
        claimed_ns: monotonic instant from before the claim.
        control: knows its stages.
        result: RunResult as JSON.
    """
    if traces is None:
        return
    try:
        traces.run_ended(_told(database, claimed, claimed_ns, control, result))
    except Exception:
        # its result is in; what keeps it from being traced must not keep the next one from being carried out
        log.exception("run not traced")


def _told(
    database: Database, claimed: ClaimedRun, claimed_ns: int, control: RunControl, result: Mapping[str, Any]
) -> RunTrace:
    run = _stored(database, claimed.run_id)
    offset_ns = wall_offset_ns()
    ended_ns = monotonic_ns() + offset_ns
    return RunTrace(
        job_id=claimed.job_id,
        run_id=claimed.run_id,
        attempt=claimed.attempt,
        target=claimed.run_spec.target.engine if run is None else run.target,
        queued_ns=None if run is None else int(run.created_at.timestamp() * 1e9),
        claimed_ns=claimed_ns + offset_ns,
        stages=[(stage, began_ns + offset_ns) for stage, began_ns in control.stages],
        ended_ns=ended_ns,
        outcome=str(result["outcome"]),
        verdict=str(result["validity"]["state"]),
        error=result["error"],
    )


def _stored(database: Database, run_id: str) -> Run | None:
    try:
        return get_run(database, run_id).run
    except ServiceError:
        return None
