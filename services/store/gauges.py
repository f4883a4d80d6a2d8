"""What /metrics and /readyz read at each scrape: few rows, whatever the history's length."""

from __future__ import annotations

from services.store.database import Database
from services.store.rows import Run, WorkerRow


def latest_for_metrics(database: Database) -> list[Run]:
    """The newest run with a result for each (engine, model, workload, target, hardware, simulated); none cancelled."""
    raise NotImplementedError


def queue_depth(database: Database) -> int:
    """Runs that wait."""
    raise NotImplementedError


def state_counts(database: Database) -> dict[str, int]:
    """Run status -> count; every status is there."""
    raise NotImplementedError


def running_progress(database: Database) -> list[Run]:
    """Runs under way, with their progress."""
    raise NotImplementedError


def list_workers(database: Database) -> list[WorkerRow]:
    """Workers that were seen within the last day."""
    raise NotImplementedError
