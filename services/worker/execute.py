"""One claimed run, from its spec to a result in the database; and from there to the next burst of the same start."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench_runner.errors import RunError
from bench_runner.load.contract import RunControl
from bench_runner.outcome import Notebook, RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import monotonic_ns, utc_now
from engines.target import HeldServer, Site
from services.domain.errors import Unavailable
from services.store.database import Database
from services.store.queue import release
from services.store.results import finish, finish_and_go_on
from services.store.rows import ClaimedRun, Fence
from services.store.starts import StartOver, another_waits
from services.telemetry.traces import Traces
from services.worker.guard import down_with_its_lease, stop_engine
from services.worker.heart import Heart
from services.worker.keeper import LeaseKeeper
from services.worker.spool import SpooledResult, write_result
from services.worker.tracing import trace_run

log = logging.getLogger(__name__)

#: Pauses between tries while the database is away: doubled each time, up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


class Runner(Protocol):
    """What carries out a run: `bench_runner.runner.run`."""

    def __call__(self, spec: RunSpec, *, control: RunControl, site: Site, held: HeldServer | None = None) -> RunOutcome:
        """Whatever the target does ends in a RunOutcome."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a worker has at hand for every run."""

    database: Database
    run: Runner
    site: Site
    #: where results wait for the database
    results: Path
    lease_s: float
    drain_s: float
    #: set: the worker is to end
    stop: threading.Event
    #: tells whoever looks from outside that the worker gets on
    heart: Heart
    #: `None`: nobody wants them
    traces: Traces | None = None


def carry_out(
    place: Workplace, claimed: ClaimedRun, claimed_ns: int, held: HeldServer | None = None
) -> tuple[ClaimedRun, int] | None:
    """Run it, keep its lease meanwhile, and see its result into the database.

    Args:
        place: what the worker has at hand.
        claimed: the run.
        claimed_ns: monotonic instant from before the claim; the lease is counted from there.
        held: keeps the engine up for the next burst of its start; stopped before anybody else may have its resources.
            `None`: the run is in no start.

    Returns:
        The next burst of the same start, claimed, and the instant from before that claim; `None`: the start is over.
    """
    control = RunControl()
    control.deadline_ns = claimed_ns + int(place.lease_s * 1e9)
    about = {"run_id": claimed.run_id, "attempt": claimed.attempt}
    log.info("run started", extra=about)
    with ExitStack() as guarded:
        keeping = LeaseKeeper(place.database, claimed, control, place.lease_s, place.stop, place.drain_s, place.heart)
        with keeping as keeper:
            outcome = _run(place, claimed, control, held)
            guarded.enter_context(down_with_its_lease(held, control))
            result = outcome.result.to_json()
            if result["outcome"] == "cancelled" and not keeper.cancel_requested:
                # nobody wanted it stopped: the worker ends, or its lease lapsed while the database was away
                stop_engine(held)
                given_back = _insist(place, lambda: release(place.database, claimed))
                log.info("run given back", extra={**about, "queued_again": bool(given_back)})
                return None
            waiting = _spool(place, claimed, result, outcome.record_rows)
            following = None
            if held is not None and not keeper.lost and _may_go_on(place, claimed, held):
                keeper.handing_in = True
                following = _go_on(place, claimed, result, outcome.record_rows)
            if following is None:
                stop_engine(held)
                keeper.handing_in = True
                _hand_in(place, claimed, result, outcome.record_rows, waiting)
            elif waiting is not None:
                waiting.discard()
        if following is not None:
            # until its own keeper is there
            control.deadline_ns = following[1] + int(place.lease_s * 1e9)
        said = {"outcome": result["outcome"], "validity": result["validity"]["state"], "error": result["error"]}
        log.info("run ended", extra=about | said)
        trace_run(place.traces, place.database, claimed, claimed_ns, control, result)
    return following


def _may_go_on(place: Workplace, claimed: ClaimedRun, held: HeldServer) -> bool:
    """Another burst waits, and nothing of the last one is still at work in the engine for it to meet.

    A burst that failed before it sent anything left the engine as it was, or showed that it cannot be started.
    """
    if place.stop.is_set() or not held.is_settled:
        return False
    try:
        return another_waits(place.database, claimed)
    except Unavailable:
        # nobody knows when it is back, and an engine must not outlive its lease
        return False


def _go_on(
    place: Workplace, claimed: ClaimedRun, result: Mapping[str, Any], rows: Callable[[], Iterable[Mapping[str, Any]]]
) -> tuple[ClaimedRun, int] | None:
    """Hand the result in and take up the next burst, at once; `None`: the one or the other could not be done."""
    before_ns = monotonic_ns()
    try:
        return finish_and_go_on(place.database, claimed, result, rows(), place.lease_s), before_ns
    except StartOver:
        return None
    except Exception as error:
        # told again, with its reason, where the result is handed in alone
        log.warning("start ends early", extra={"run_id": claimed.run_id, "reason": str(error)})
        return None


def deliver(place: Workplace, waiting: SpooledResult) -> bool:
    """Give a result on disk to the database; False where that has to wait for the worker's next life."""
    return _give(place, waiting, waiting.result, waiting.records, waiting)


def _run(place: Workplace, claimed: ClaimedRun, control: RunControl, held: HeldServer | None) -> RunOutcome:
    started_at = utc_now()
    try:
        if held is None:
            return place.run(claimed.run_spec, control=control, site=place.site)
        return place.run(claimed.run_spec, control=control, site=place.site, held=held)
    except Exception as error:
        # a fault of ours, not of the target; the run must end all the same, or it would be tried for ever
        log.exception("run broke", extra={"run_id": claimed.run_id})
        return Notebook(claimed.run_spec, started_at).close(
            RunError(f"internal error: {type(error).__name__}: {error}")
        )


def _spool(
    place: Workplace, claimed: ClaimedRun, result: Mapping[str, Any], rows: Callable[[], Iterable[Mapping[str, Any]]]
) -> SpooledResult | None:
    """The result on this worker's disk; `None`: it cannot be written there."""
    try:
        return write_result(
            place.results,
            run_id=claimed.run_id,
            attempt=claimed.attempt,
            worker=claimed.worker,
            result=result,
            records=rows(),
        )
    except OSError as error:
        log.error("result not spooled", extra={"run_id": claimed.run_id, "reason": str(error)})
        return None


def _hand_in(
    place: Workplace,
    claimed: ClaimedRun,
    result: Mapping[str, Any],
    rows: Callable[[], Iterable[Mapping[str, Any]]],
    waiting: SpooledResult | None,
) -> None:
    if waiting is None:
        _give(place, claimed, result, rows, None)
        return
    deliver(place, waiting)


def _give(
    place: Workplace,
    fence: Fence,
    result: Mapping[str, Any],
    rows: Callable[[], Iterable[Mapping[str, Any]]],
    waiting: SpooledResult | None,
) -> bool:
    try:
        taken = _insist(place, lambda: finish(place.database, fence, result, rows()))
    except Exception as error:
        # a result that no database takes must not be tried for ever: the run ends as failed, the file is kept
        log.exception("result refused", extra={"run_id": fence.run_id})
        reason = f"internal error: its result could not be kept: {type(error).__name__}"
        taken = _insist(place, lambda: finish(place.database, fence, _stand_in(result, reason), ()))
        if taken is not None and waiting is not None:
            waiting.set_aside()
        return taken is not None
    if taken is None:
        log.warning("result waits for the database", extra={"run_id": fence.run_id})
        return False
    if not taken:
        log.warning("result came too late", extra={"run_id": fence.run_id, "attempt": fence.attempt})
    if waiting is not None:
        waiting.discard()
    return True


def _insist(place: Workplace, act: Callable[[], bool]) -> bool | None:
    """Do it, again and again while the database is away; `None`: the worker ends before it came back."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return act()
        except Unavailable as error:
            log.warning("database away", extra={"reason": str(error), "pause_s": pause_s})
        place.heart.beat()
        if place.stop.wait(pause_s):
            return None
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _stand_in(result: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A failed result without measurements in place of one that could not be kept."""
    at = utc_now().isoformat()
    kept = {name: result.get(name) for name in ("spec", "spec_digest", "workload_digest", "prompts_digest")}
    return {
        **kept,
        "environment": {},
        "summary": {},
        "failures": {},
        "validity": {
            "state": "INVALID",
            "reasons": [{"code": "run_failed", "severity": "invalid", "message": reason}],
        },
        "started_at": result.get("started_at") or at,
        "ended_at": result.get("ended_at") or at,
        "outcome": "failed",
        "error": reason,
        "notes": [],
        "schema_version": result.get("schema_version"),
    }
