"""Named targets. A run keeps its own snapshot, so deleting one changes no history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, delete, insert, select
from sqlalchemy.exc import IntegrityError

from services.domain.errors import Conflict, NotFound, Problem
from services.store.cursor import Keyset
from services.store.database import Database, now
from services.store.rows import Page, StoredTarget
from services.store.tables import targets


def create_target(database: Database, *, name: str, spec: Mapping[str, Any], description: str = "") -> StoredTarget:
    """Raises Conflict where the name is taken. `spec` is a TargetSpec as JSON."""
    row = {"name": name, "engine": spec["engine"], "spec": dict(spec), "description": description}
    try:
        with database.write() as connection:
            row["created_at"] = now(connection)
            connection.execute(insert(targets), row)
    except IntegrityError:
        taken = f"there is a target {name!r} already"
        raise Conflict(taken, (Problem("name", taken, "delete it first, or use another name"),)) from None
    return get_target(database, name)


def get_target(database: Database, name: str) -> StoredTarget:
    """Raises NotFound."""
    with database.read() as connection:
        row = connection.execute(select(targets).where(targets.c.name == name)).mappings().one_or_none()
    if row is None:
        raise _not_found(name)
    return _target_from(row)


def list_targets(
    database: Database, *, engine: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[StoredTarget]:
    """By name. Raises BadInput for a cursor that is not ours."""
    query = select(targets) if engine is None else select(targets).where(targets.c.engine == engine)
    order = Keyset("name", targets.c.name, targets.c.name, descending=False)
    with database.read() as connection:
        rows, following = order.page(connection, query, limit, cursor)
    return Page(tuple(_target_from(row) for row in rows), following)


def delete_target(database: Database, name: str) -> None:
    """Raises NotFound."""
    with database.write() as connection:
        if connection.execute(delete(targets).where(targets.c.name == name)).rowcount == 0:
            raise _not_found(name)


def _target_from(row: RowMapping) -> StoredTarget:
    return StoredTarget(row["name"], row["spec"], row["description"], row["created_at"])


def _not_found(name: str) -> NotFound:
    missing = f"there is no target {name!r}"
    return NotFound(missing, (Problem("name", missing, "take one from GET /v1/targets"),))
