"""Summaries of many runs at once: what a job's page and a comparison read, without a query a run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from services.store.database import Database
from services.store.tables import documents, runs


def summaries_of_job(database: Database, job_id: str) -> dict[str, dict[str, Any]]:
    """Run id -> Summary as JSON, for the job's runs that have a result."""
    summary = documents.c.result["summary"]
    query = (
        select(documents.c.run_id, summary)
        .join(runs, runs.c.id == documents.c.run_id)
        .where(runs.c.job_id == job_id, documents.c.result.is_not(None))
    )
    with database.read() as connection:
        return {run_id: found for run_id, found in connection.execute(query) if found is not None}
