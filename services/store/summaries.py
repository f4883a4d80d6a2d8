"""Figures and reasons of many runs at once: what a job's page and its curve read, without a query a run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from bench_runner.measure.repeats import figures_of
from services.store.database import Database
from services.store.tables import documents, runs


def figures_of_job(database: Database, job_id: str) -> dict[str, dict[str, float]]:
    """Run id -> its Summary's figures by name, for the job's runs that have a result."""
    kept = select(runs.c.id, runs.c.figures).where(runs.c.job_id == job_id, runs.c.figures.is_not(None))
    # Results from before figures were kept beside the run.
    older = (
        select(documents.c.run_id, documents.c.result["summary"])
        .join(runs, runs.c.id == documents.c.run_id)
        .where(
            runs.c.job_id == job_id,
            runs.c.result_attempt.is_not(None),
            runs.c.figures.is_(None),
            documents.c.result.is_not(None),
        )
    )
    with database.read() as connection:
        found: dict[str, dict[str, float]] = {run.id: run.figures for run in connection.execute(kept)}
        found |= {run_id: figures_of(summary) for run_id, summary in connection.execute(older) if summary is not None}
    return found


def reasons_of_job(database: Database, job_id: str) -> dict[str, tuple[dict[str, Any], ...]]:
    """Run id -> why it is not VALID, notes left out, for the job's runs with a result that are not."""
    query = (
        select(documents.c.run_id, documents.c.result["validity"]["reasons"])
        .join(runs, runs.c.id == documents.c.run_id)
        .where(runs.c.job_id == job_id, runs.c.validity.is_not(None), runs.c.validity != "VALID")
    )
    with database.read() as connection:
        return {
            run_id: tuple(reason for reason in reasons or () if reason.get("severity") != "note")
            for run_id, reasons in connection.execute(query)
        }
