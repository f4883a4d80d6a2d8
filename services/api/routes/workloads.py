"""Workloads that have a name: the presets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from bench_runner.plan.presets import DESCRIPTIONS, PRESETS
from services.api.openapi import problems
from services.api.schemas import PageOut, WorkloadOut
from services.domain.errors import NotFound, Problem

router = APIRouter(prefix="/v1/workloads", tags=["catalogue"])


@router.get("")
def get_workloads() -> PageOut[WorkloadOut]:
    """Every preset with its full spec; jobs may name it, or give a workload of their own."""
    items = [WorkloadOut(name=name, description=DESCRIPTIONS[name], spec=spec) for name, spec in PRESETS.items()]
    return PageOut(items=items, next=None)


@router.get("/{name}", responses=problems(404))
def get_one_workload(
    name: Annotated[str, Path(max_length=100, examples=["burst-100x128x128"])],
) -> WorkloadOut:
    """One preset with its full spec."""
    if name not in PRESETS:
        raise NotFound(
            f"there is no preset {name!r}", (Problem("name", "is no preset", f"use one of {', '.join(PRESETS)}"),)
        )
    return WorkloadOut(name=name, description=DESCRIPTIONS[name], spec=PRESETS[name])
