"""The end of a run: its result, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.store.database import Database
from services.store.rows import ClaimedRun


def finish(
    database: Database, claimed: ClaimedRun, result: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
) -> bool:
    """Keep a result: run row, documents, attempt and records in one transaction, resources freed.

    A late result is taken where no other attempt's is there. Again: no effect, and the same answer.

    Returns:
        Whether this attempt's result is the run's.
    """
    raise NotImplementedError
