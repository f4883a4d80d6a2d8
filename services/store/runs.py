"""Runs as the history reads them: one, many, their records (the queue is in `queue`, the end in `results`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.store.database import Database
from services.store.rows import Page, Run, RunDetail, RunFilter

#: What a list of runs can be sorted by; "-" before the name: descending. Rows without a value come last either way.
SORT_FIELDS = (
    "created_at",
    "started_at",
    "ended_at",
    "duration_s",
    "input_tokens_per_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "ttft_p50_s",
    "ttft_p95_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "e2e_p50_s",
    "e2e_p99_s",
    "roofline_ratio",
)


def get_run(database: Database, run_id: str) -> RunDetail:
    """Raises NotFound."""
    raise NotImplementedError


def list_runs(
    database: Database,
    where: RunFilter | None = None,
    *,
    sort: str = "-created_at",
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Run]:
    """A page of runs, stable under inserts: a cursor names the last row shown, not a count.

    Raises:
        BadInput: an unknown sort field, or a cursor that is not ours or belongs to another sort.
    """
    raise NotImplementedError


def get_records(database: Database, run_id: str) -> Iterator[dict[str, Any]]:
    """A run's request records in the order of the plan, one at a time; none where it has no result.

    Raises:
        NotFound: no such run (raised at the call, not at the first record).
    """
    raise NotImplementedError


def cancel_run(database: Database, run_id: str) -> Run:
    """Queued: cancelled at once. Running: asked to stop. Ended: as it is. Raises NotFound."""
    raise NotImplementedError
