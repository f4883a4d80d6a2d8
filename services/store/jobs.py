"""Jobs: asked for once, read often, cancelled. Their runs are the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.domain.job import PlannedRun
from services.store.database import Database
from services.store.rows import Job, Page, Run


def enqueue(
    database: Database,
    *,
    spec: Mapping[str, Any],
    name: str,
    labels: Mapping[str, str],
    priority: int,
    runs: Sequence[PlannedRun],
    idempotency_key: str | None = None,
    body_digest: str = "",
) -> tuple[Job, bool]:
    """Accept a job and queue its runs, in one transaction.

    Returns:
        The job, and whether it is new: the same key with the same body gives the job that is there.

    Raises:
        Conflict: the key was used with another body.
    """
    raise NotImplementedError


def get_job(database: Database, job_id: str) -> Job:
    """Raises NotFound."""
    raise NotImplementedError


def runs_of_job(database: Database, job_id: str) -> list[Run]:
    """All runs of a job in their order."""
    raise NotImplementedError


def list_jobs(
    database: Database,
    *,
    status: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Job]:
    """Newest first. Raises BadInput for a cursor that is not ours."""
    raise NotImplementedError


def cancel_job(database: Database, job_id: str) -> Job:
    """Cancel what is queued at once and ask what runs to stop. Raises NotFound. Again: no effect."""
    raise NotImplementedError
