"""The queue: one row a run, taken under a lease together with every resource it occupies. For workers only.

Every comparison of times is made on the database's clock. A run's fence is (worker, attempt).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.store.database import Database
from services.store.rows import ClaimedRun, Renewal

#: A run whose attempts were lost this often ends as failed: it kills its workers.
MAX_LOST_ATTEMPTS = 5


def claim(database: Database, worker: str, lease_s: float) -> ClaimedRun | None:
    """Take the first run whose resources are free: highest priority, then oldest; `None`: nothing to do.

    A run whose lease lapsed is taken over with its attempt raised.
    """
    raise NotImplementedError


def renew(database: Database, claimed: ClaimedRun, progress: Mapping[str, Any] | None, lease_s: float) -> Renewal:
    """Keep the lease for another `lease_s` and say how far the run is."""
    raise NotImplementedError


def release(database: Database, claimed: ClaimedRun) -> bool:
    """Give it back as queued (a drained worker); False where it was no longer ours."""
    raise NotImplementedError


def beat(database: Database, worker: str, run_id: str | None, version: str) -> None:
    """Say that the worker is there."""
    raise NotImplementedError
