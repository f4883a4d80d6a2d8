"""Jobs: asked for, followed, cancelled."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict
from logging import getLogger
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.openapi.models import Example
from fastapi.responses import JSONResponse, StreamingResponse

from bench_runner.plan.presets import PRESETS
from engines.address import look_up
from engines.catalog import find_engine
from engines.clock import wall_ns
from engines.spec import TargetSpec
from services.api.cells import summarise_cells
from services.api.curve import curve_of
from services.api.deps import Caller, Config, Cursor, JobId, Labels, Limit, Store, labels_of
from services.api.dry_run import what_would_run
from services.api.events import follow_job
from services.api.fairness import asymmetries_found, asymmetries_planned
from services.api.job_schemas import CurveOut, DryRunOut, JobAcceptedOut, JobDetailOut, JobOut, RunState, SearchOut
from services.api.openapi import problems
from services.api.rules import check_job, house_rules
from services.api.schemas import PageOut
from services.api.shown import shown_job
from services.domain.errors import NotFound, Problem
from services.domain.expansion import expand
from services.domain.job import JOB_EXAMPLE, STARTS_EXAMPLE, JobSpec, TargetArm
from services.domain.search import SEARCH_JOB_EXAMPLE
from services.domain.sweep import SWEEP_EXAMPLE
from services.store.database import Database
from services.store.jobs import cancel_job, enqueue, find_replayed, get_job, list_jobs, runs_of_job
from services.store.rows import Job, RunStatus
from services.store.searches import SearchState, searches_of_job
from services.store.summaries import figures_of_job, reasons_of_job
from services.store.targets import get_target
from services.store.treated import attached_in_job

log = getLogger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="the same key with the same body gives the job that is there; with another body: 409",
    ),
]

JOB_EXAMPLES: dict[str, Example] = {
    "two engines": {"value": JOB_EXAMPLE},
    "starts in blocks": {"value": STARTS_EXAMPLE},
    "a sweep": {"value": SWEEP_EXAMPLE},
    "a search": {"value": SEARCH_JOB_EXAMPLE},
}

#: One event of the stream; `data` is JSON.
EVENT_SCHEMA = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["job", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "job_id, status, counts (run status -> runs), started_at, ended_at, running: run_id, "
            "target, workload, repeat, attempt, progress (stage, requests, sent, finished, failed) of what runs now",
        },
    },
}


@router.post(
    "",
    status_code=202,
    response_model=JobAcceptedOut,
    responses={
        200: {"model": DryRunOut, "description": "With dry_run: what it would do. Nothing is queued."},
        202: {"description": "Accepted; see Location."},
        **problems(409),
    },
)
def post_job(
    job: Annotated[JobSpec, Body(openapi_examples=JOB_EXAMPLES)],
    store: Store,
    settings: Config,
    caller: Caller,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="only say what would run, and in which order")] = False,
) -> JobAcceptedOut | JSONResponse:
    """Ask for runs: targets × workloads × repeats. Answers at once; the worker takes them up in order.

    With `starts`, an engine is started fewer times and measured in several bursts each time, there and back (A B B A).
    With `sweep`, each workload at each point of an axis (see the curve); with `search`, the highest load that meets an
    SLO: each run asks for the next, and the job says how it ended.
    """
    began_ns = wall_ns()
    digest = digest_of(job)
    if not dry_run and idempotency_key is not None and (there := find_replayed(store, idempotency_key, digest)):
        # Not checked again: what it named may be gone by now, and the job is accepted all the same.
        response.headers["Location"] = f"/v1/jobs/{there.id}"
        told = asymmetries_found(store, there.id)
        return JobAcceptedOut(**JobOut.model_validate(there).model_dump(), asymmetries=told)
    stored = stored_targets(store, job)
    seed = secrets.randbits(48) if job.seed is None else job.seed
    check_job(job, stored, house_rules(settings))
    planned = expand(job, stored, presets=PRESETS, stops_early=stops_early, seed=seed, lookup=look_up)
    if dry_run:
        return JSONResponse(what_would_run(job, planned).model_dump(mode="json"))
    accepted, is_new = enqueue(
        store,
        spec=job.model_copy(update={"seed": seed}).model_dump(mode="json"),
        name=job.name,
        labels=job.labels,
        priority=job.priority,
        runs=planned,
        idempotency_key=idempotency_key,
        body_digest=digest,
        created_by=None if caller is None else {"id": caller.id, "name": caller.name},
    )
    log.info("job accepted", extra={"job_id": accepted.id, "runs": len(planned), "is_new": is_new})
    if is_new and request.app.state.traces is not None:
        request.app.state.traces.job_accepted(accepted.id, accepted.name, len(planned), began_ns, wall_ns())
    response.headers["Location"] = f"/v1/jobs/{accepted.id}"
    told = asymmetries_planned(planned)
    return JobAcceptedOut(**JobOut.model_validate(accepted).model_dump(), asymmetries=told)


def stored_targets(store: Database, job: JobSpec) -> dict[str, TargetSpec]:
    """The stored targets that the job names and that are there."""
    names = {c.like if isinstance(c, TargetArm) else c for c in job.targets if isinstance(c, (str, TargetArm))}
    found: dict[str, TargetSpec] = {}
    for name in names:
        try:
            found[name] = TargetSpec.model_validate(get_target(store, name).spec)
        except NotFound:
            continue
    return found


def stops_early(target: TargetSpec) -> bool:
    """Its engine cannot be told to ignore EOS in a request."""
    return not find_engine(target.engine).capabilities.fixed_length


def digest_of(job: JobSpec) -> str:
    """Tells one body from another, whatever the order of its fields."""
    canonical = json.dumps(job.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@router.get("")
def get_jobs(
    store: Store,
    status: Annotated[list[RunStatus], Query()] = [],  # noqa: B006  FastAPI copies it
    label: Labels = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOut[JobOut]:
    """Jobs, newest first."""
    page = list_jobs(store, status=[s.value for s in status], labels=labels_of(label), limit=limit, cursor=cursor)
    return PageOut(items=[JobOut.model_validate(job) for job in page.items], next=page.next_cursor)


@router.get("/{job_id}", responses=problems(404))
def get_one_job(job_id: JobId, store: Store) -> JobDetailOut:
    """One job: its runs' states, and each target × workload summarised over its repeats."""
    job = get_job(store, job_id)
    runs = runs_of_job(store, job_id)
    attached = attached_in_job(store, job_id) if any(run.start_id for run in runs) else set()
    return JobDetailOut(
        **JobOut.model_validate(job).model_dump(),
        spec=shown_job(job.spec),
        runs=[RunState.model_validate(run) for run in runs],
        cells=summarise_cells(runs, figures_of_job(store, job_id), attached),
        searches=[search_out(job, state) for state in searches_of_job(store, job_id)],
        asymmetries=asymmetries_found(store, job_id),
    )


def search_out(job: Job, state: SearchState) -> SearchOut:
    """How a search stands, or how it ended."""
    asked = job.spec["search"]
    found: dict[str, Any] = {
        "state": "searching" if state.moving else "stopped",
        "highest_meeting": max((value.value for value in state.values if value.said == "meets"), default=None),
        "lowest_failing": min((value.value for value in state.values if value.said == "fails"), default=None),
        "confidence": asked["confidence"],
        "attainment": asked["attainment"],
        "values": [asdict(value) for value in state.values],
        "words": "the search goes on" if state.moving else "the search was stopped before it could say",
    }
    found |= state.verdict or {}
    return SearchOut.model_validate(
        {**found, "target": state.target, "workload": state.series, "axis": asked["axis"], "probes": state.runs}
    )


@router.get("/{job_id}/curve", responses=problems(404))
def get_job_curve(job_id: JobId, store: Store) -> CurveOut:
    """Throughput against interactivity along the axis of a sweep or a search: one point a value, over VALID runs."""
    job = get_job(store, job_id)
    along = job.spec.get("sweep") or job.spec.get("search")
    if along is None:
        missing = f"job {job_id} has no curve: it has neither a sweep nor a search"
        raise NotFound(missing, (Problem("job_id", missing, "post a job with a sweep"),))
    runs = runs_of_job(store, job_id)
    return curve_of(job_id, along["axis"], runs, figures_of_job(store, job_id), reasons_of_job(store, job_id))


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `job` at every change (status, counts, runs under way), then `end`.",
            "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
        },
        **problems(404),
    },
)
def get_job_events(
    job_id: JobId,
    store: Store,
    caller: Caller,
    request: Request,
    follow: Annotated[bool, Query(description="false: say how it stands and end")] = True,
) -> StreamingResponse:
    """The job's progress as it happens; ends when the job has, or the key that it was asked for with is revoked."""
    get_job(store, job_id)
    key_id = None if caller is None else caller.id
    return StreamingResponse(
        follow_job(store, job_id, follow=follow, is_ending=request.app.state.is_ending, key_id=key_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/{job_id}/cancel", responses=problems(404))
def post_job_cancel(job_id: JobId, store: Store) -> JobOut:
    """Cancel what waits, and ask what runs to stop; what was measured is kept. Again: no effect."""
    return JobOut.model_validate(cancel_job(store, job_id))
