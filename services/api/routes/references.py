"""Published figures, to hold runs against."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from bench_runner.references.published import Reference, load_references
from services.api.schemas import PageOut

router = APIRouter(prefix="/v1/references", tags=["catalogue"])

Name = Annotated[str | None, Query(max_length=200)]


@router.get("")
def get_references(
    table: Name = None, engine: Name = None, model: Name = None, workload: Name = None
) -> PageOut[Reference]:
    """Published rows with their sources; what is wrong with a table stands in its `note`."""
    wanted = {"table": table, "engine": engine, "model": model, "workload": workload}
    rows = [
        row
        for row in load_references()
        if all(value is None or getattr(row, name) == value for name, value in wanted.items())
    ]
    return PageOut(items=rows, next=None)
