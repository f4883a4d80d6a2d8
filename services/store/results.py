"""The end of a run: its result, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from bench_runner.measure.repeats import figures_of
from bench_runner.plan.spec import Slo
from services.domain.attainment import Tally
from services.store import tables
from services.store.database import Database, now
from services.store.latest import show_as_latest
from services.store.queue import end_attempt, free
from services.store.records import PACKING, pack
from services.store.rows import ClaimedRun, Fence, RunStatus
from services.store.searches import advance, hold_search
from services.store.starts import StartOver, pass_on
from services.store.tables import attempts, documents, runs

#: Distributions whose percentiles are columns: metric -> stem of the column's name.
_DISTRIBUTIONS = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2e"}
_PERCENTILES = ("p50", "p95", "p99")
_NUMBERS = (
    "duration_s",
    "input_tokens_per_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "roofline_ratio",
    "output_tokens_per_s_per_gpu",
    "joules_per_output_token",
    "output_tokens_per_s_per_w",
    "requests",
    "successes",
    "total_input_tokens",
    "total_output_tokens",
)


def finish(database: Database, fence: Fence, result: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> bool:
    """Keep a result: run row, documents, attempt and records in one transaction, resources freed.

    A late result is taken where no other attempt's is there. Again: no effect, and the same answer.

    Returns:
        Whether this attempt's result is the run's.
    """
    kept = _kept(result, records)
    with database.write() as connection:
        return _keep(database, connection, fence, kept)


def finish_and_go_on(
    database: Database,
    claimed: ClaimedRun,
    result: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    lease_s: float,
) -> ClaimedRun:
    """Keep a result and take up the next run of the same start, which gets what this one held, in one transaction.

    Raises:
        StartOver: none can follow, or the run is no longer ours; nothing was kept.
    """
    kept = _kept(result, records)
    with database.write() as connection:
        following = pass_on(connection, claimed, lease_s)
        if not _keep(database, connection, claimed, kept):
            raise StartOver
        return following


@dataclass(frozen=True, slots=True)
class _Kept:
    """A result as the database takes it."""

    result: Mapping[str, Any]
    attained: Mapping[str, Any] | None
    packed: bytes
    count: int


def _kept(result: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> _Kept:
    tally = _tally(result)
    packed, count = pack(records if tally is None else tally.watch(records))
    return _Kept(result, _attained(result, tally), packed, count)


def _keep(database: Database, connection: Connection, fence: Fence, kept: _Kept) -> bool:
    result = kept.result
    held = hold_search(connection, fence.run_id)
    run = connection.execute(_fenced(fence)).one_or_none()
    if run is None:
        return False
    moment = now(connection)
    free(connection, fence.run_id, fence.attempt)
    if run.result_attempt is not None:
        if run.result_attempt != fence.attempt:
            end_attempt(connection, fence, "superseded", moment, over=("lost", "superseded"))
        return bool(run.result_attempt == fence.attempt)
    end_attempt(connection, fence, "result", moment, over=("lost",))
    # a later attempt may be under way; its worker learns of this at its next renewal
    under_way = update(attempts).where(attempts.c.run_id == fence.run_id, attempts.c.ended.is_(None))
    connection.execute(under_way.values(ended="superseded", ended_at=moment))
    columns = hot_columns(result) | {"attained": kept.attained}
    # the attempt's own start and worker: a late result may belong to an earlier attempt than the row's
    columns |= {"started_at": run.attempt_started_at, "ended_at": moment, "worker": fence.worker}
    columns |= {"result_attempt": fence.attempt, "lease_expires_at": None, "progress": None}
    connection.execute(update(runs).where(runs.c.id == fence.run_id).values(columns))
    connection.execute(update(documents).where(documents.c.run_id == fence.run_id).values(result=dict(result)))
    data = {"records": kept.count, "packing": PACKING, "data": kept.packed}
    connection.execute(insert(tables.records).values(run_id=fence.run_id, **data))
    if held is not None:
        # Never the latest: each probe is a workload of its own, and would crowd the others out of /metrics.
        advance(connection, held)
    elif columns["status"] != RunStatus.CANCELLED and run.excluded_at is None:
        show_as_latest(database, connection, run, moment, simulated=columns["simulated"])
    return True


def hot_columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """What lists, sorts and /metrics read of a RunResult, by column."""
    summary = result["summary"]
    columns: dict[str, Any] = {name: summary.get(name) for name in _NUMBERS}
    for metric, stem in _DISTRIBUTIONS.items():
        distribution = summary.get(metric) or {}
        columns |= {f"{stem}_{name}_s": distribution.get(name) for name in _PERCENTILES}
    per_user = summary.get("tokens_per_s_per_user") or {}
    return columns | {
        "tokens_per_s_per_user_p50": per_user.get("p50"),
        "engine_version": (result["environment"].get("server") or {}).get("version"),
        "status": RunStatus(result["outcome"]),
        "workload_digest": result["workload_digest"],
        "simulated": bool(result["environment"].get("simulated")),
        "validity": result["validity"]["state"],
        "reason_codes": list(dict.fromkeys(reason["code"] for reason in result["validity"]["reasons"])),
        "failures": dict(result["failures"]),
        "error": result["error"],
        "figures": figures_of(summary),
        "start_id": (result["environment"].get("start") or {}).get("id"),
    }


def _tally(result: Mapping[str, Any]) -> Tally | None:
    """What counts the requests that met the run's SLO; `None`: it had none."""
    spec = result["spec"]
    if spec.get("slo") is None:
        return None
    workload = spec["workload"]
    slots = workload["arrival"].get("concurrency") or 0
    slo = Slo.model_validate(spec["slo"])
    return Tally(slo, from_scheduled=not slots, ramp_up_s=workload.get("ramp_up_s") or 0.0, skipped=slots)


def _attained(result: Mapping[str, Any], tally: Tally | None) -> dict[str, Any] | None:
    if tally is None:
        return None
    against = [reason for reason in result["validity"]["reasons"] if reason["severity"] != "note"]
    codes = list(dict.fromkeys(reason["code"] for reason in against))
    return {**asdict(tally.attained()), "codes": codes, "why": "; ".join(reason["message"] for reason in against)}


def _fenced(fence: Fence) -> Select[Any]:
    """The run, held still, where this worker really made this attempt."""
    return (
        select(runs, attempts.c.started_at.label("attempt_started_at"))
        .join(attempts, attempts.c.run_id == runs.c.id)
        .where(
            runs.c.id == fence.run_id,
            attempts.c.attempt == fence.attempt,
            attempts.c.worker == fence.worker,
        )
        .with_for_update(of=runs)
    )
