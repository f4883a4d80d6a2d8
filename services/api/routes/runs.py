"""Runs: the history, filtered and paged; one run; its requests; cancelled."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator

from bench_runner.measure.result import ValidityState
from services.api.deps import Cursor, Labels, Limit, Moment, RunId, Store, labels_of
from services.api.openapi import problems
from services.api.records import as_csv, as_json
from services.api.schemas import AttemptOut, Metrics, PageOut, RunDetailOut, RunOut
from services.api.shown import shown_result, shown_run
from services.domain.exclusion import EXCLUSION_EXAMPLE, Exclusion
from services.store.exclusion import exclude_run, include_run
from services.store.rows import RunFilter, RunStatus
from services.store.runs import SORT_FIELDS, cancel_run, get_records, get_run, list_runs

router = APIRouter(prefix="/v1/runs", tags=["runs"])

SORTS = tuple(f"{sign}{field}" for field in SORT_FIELDS for sign in ("", "-"))
Names = Annotated[list[Annotated[str, Query(max_length=200)]], Query(max_length=50)]


def _is_sort(value: str) -> str:
    if value not in SORTS:
        raise ValueError(f"must be one of {', '.join(SORT_FIELDS)}, with '-' before it for descending")
    return value


Sort = Annotated[
    str,
    AfterValidator(_is_sort),
    Query(json_schema_extra={"enum": list(SORTS)}, description='"-" before the name: descending; no value: last'),
]


@router.get("")
def get_runs(
    store: Store,
    engine: Names = [],  # noqa: B006  FastAPI copies it
    model: Names = [],  # noqa: B006
    workload: Names = [],  # noqa: B006
    target: Names = [],  # noqa: B006
    hardware: Names = [],  # noqa: B006
    flag_class: Names = [],  # noqa: B006
    status: Annotated[list[RunStatus], Query(max_length=5)] = [],  # noqa: B006
    validity: Annotated[list[ValidityState], Query(max_length=3)] = [],  # noqa: B006
    job: Annotated[str | None, Query(max_length=64)] = None,
    label: Labels = [],  # noqa: B006
    simulated: bool | None = None,
    excluded: Annotated[bool | None, Query(description="left out of rankings by a person")] = None,
    since: Annotated[Moment | None, Query(description="created at or after; a day: from its beginning in UTC")] = None,
    until: Annotated[Moment | None, Query(description="created before; a day: itself is not included")] = None,
    sort: Sort = "-created_at",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOut[RunOut]:
    """The history. A filter given several times takes any of its values; a page stays stable while runs are added."""
    where = RunFilter(
        engine=tuple(engine),
        model=tuple(model),
        workload=tuple(workload),
        target=tuple(target),
        hardware=tuple(hardware),
        flag_class=tuple(flag_class),
        status=tuple(s.value for s in status),
        validity=tuple(v.value for v in validity),
        job=job,
        labels=labels_of(label),
        simulated=simulated,
        excluded=excluded,
        since=since,
        until=until,
    )
    page = list_runs(store, where, sort=sort, limit=limit, cursor=cursor)
    return PageOut(items=[RunOut.model_validate(run) for run in page.items], next=page.next_cursor)


@router.get("/{run_id}", responses=problems(404))
def get_one_run(run_id: RunId, store: Store) -> RunDetailOut:
    """One run with its spec, its whole RunResult and its attempts."""
    detail = get_run(store, run_id)
    return RunDetailOut(
        **{**RunOut.model_validate(detail.run).model_dump(), "metrics": Metrics.model_validate(detail.run.metrics)},
        spec=shown_run(detail.spec),
        result=shown_result(detail.result) if detail.result is not None else None,
        attempts=[AttemptOut.model_validate(a) for a in detail.attempts],
        records=detail.records,
    )


@router.get(
    "/{run_id}/requests",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Every request of the run, in the order of the plan; none without a result.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["run_id", "items"],
                        "properties": {
                            "run_id": {"type": "string"},
                            "items": {"type": "array", "items": {"type": "object"}},
                        },
                    }
                },
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        **problems(404),
    },
)
def get_run_requests(
    run_id: RunId,
    store: Store,
    request: Request,
    format: Annotated[Literal["json", "csv"] | None, Query(description="over the Accept header")] = None,
) -> StreamingResponse:
    """The run's request records: stamps, counts, failures. CSV leaves out the stamps of single events."""
    records = get_records(store, run_id)
    if format == "csv" or (format is None and "text/csv" in request.headers.get("accept", "")):
        disposition = f'attachment; filename="{run_id}.csv"'
        return StreamingResponse(
            as_csv(records), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition}
        )
    return StreamingResponse(as_json(run_id, records), media_type="application/json")


@router.patch("/{run_id}", responses=problems(404, 409))
def patch_run(
    run_id: RunId,
    change: Annotated[Exclusion, Body(openapi_examples={"left out": {"value": EXCLUSION_EXAMPLE}})],
    store: Store,
) -> RunOut:
    """Leave a run out of rankings with a note, or take it in again. It stays in the history, with the note.

    A run that is left out counts in no summary of its job, no curve, no comparison, no dashboard's figures and not on
    /metrics, which then shows the newest one before it.
    """
    if change.excluded_note is not None:
        return RunOut.model_validate(exclude_run(store, run_id, change.excluded_note))
    return RunOut.model_validate(include_run(store, run_id))


@router.post("/{run_id}/cancel", responses=problems(404))
def post_run_cancel(run_id: RunId, store: Store) -> RunOut:
    """Cancel a run that waits, or ask one under way to stop. Ended: as it is."""
    return RunOut.model_validate(cancel_run(store, run_id))
