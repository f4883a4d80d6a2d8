"""Named targets. A run keeps its own snapshot, so deleting one changes no history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.store.database import Database
from services.store.rows import Page, StoredTarget


def create_target(database: Database, *, name: str, spec: Mapping[str, Any], description: str = "") -> StoredTarget:
    """Raises Conflict."""
    raise NotImplementedError


def get_target(database: Database, name: str) -> StoredTarget:
    """Raises NotFound."""
    raise NotImplementedError


def list_targets(
    database: Database, *, engine: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[StoredTarget]:
    """By name. Raises BadInput for a cursor that is not ours."""
    raise NotImplementedError


def delete_target(database: Database, name: str) -> None:
    """Raises NotFound."""
    raise NotImplementedError
