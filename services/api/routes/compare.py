"""Runs held against each other, along one axis."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator

from bench_runner.compare import Comparison, compare
from bench_runner.likeness import AXES
from services.api.deps import Store
from services.api.openapi import problems
from services.api.shown import shown_result
from services.domain.errors import BadInput, Conflict, NotFound, Problem
from services.store.database import Database
from services.store.runs import get_run

router = APIRouter(prefix="/v1/compare", tags=["runs"])

#: More would be a table nobody reads.
MOST_RUNS = 100


_IDS = re.compile(r"^[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+)+$")


def _is_axis(value: str) -> str:
    if value not in AXES:
        raise ValueError(f"must be one of {', '.join(AXES)}")
    return value


def _are_ids(value: str) -> str:
    if not _IDS.fullmatch(value):
        raise ValueError("must be the ids of two or more runs, with commas between")
    return value


@router.get("", responses=problems(404, 409))
def get_comparison(
    store: Store,
    runs: Annotated[
        str,
        AfterValidator(_are_ids),
        Query(
            max_length=8000,
            json_schema_extra={"pattern": _IDS.pattern},
            description="ids with commas between, at least two; the first one's side is the baseline",
            examples=["0198c0de0000700080000000000000aa-00000,0198c0de0000700080000000000000aa-00001"],
        ),
    ],
    axis: Annotated[
        str,
        AfterValidator(_is_axis),
        Query(json_schema_extra={"enum": list(AXES)}, description="the one thing that may differ"),
    ] = "engine",
) -> Comparison:
    """Ratios against the first side, or "not comparable" with the fields that differ. Only VALID runs are compared."""
    names = list(dict.fromkeys(runs.split(",")))
    if not 2 <= len(names) <= MOST_RUNS:
        raise BadInput(
            Problem("runs", f"names {len(names)} different runs", f"name from 2 to {MOST_RUNS} different runs")
        )
    return compare([shown_result(_result(store, name)) for name in names], axis, names)


def _result(store: Database, run_id: str) -> dict[str, Any]:
    try:
        detail = get_run(store, run_id)
    except NotFound as error:
        raise NotFound(str(error), (Problem("runs", str(error), "take ids from GET /v1/runs"),)) from None
    if detail.result is None:
        raise Conflict(
            f"the run {run_id} has no result; it is {detail.run.status.value}",
            (Problem("runs", f"{run_id} has no result", "wait for its end, or leave it out"),),
        )
    if detail.run.excluded_at is not None:
        # Left out as one that is not VALID is, under a name of its own.
        reason = {"code": "excluded", "severity": "invalid", "message": detail.run.excluded_note}
        return {**detail.result, "validity": {"state": "EXCLUDED", "reasons": [reason]}}
    return dict(detail.result)
