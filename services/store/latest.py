"""One row a label set: the run that /metrics shows of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.store.database import Database
from services.store.tables import latest_runs


def labels_of(run: Row[Any]) -> dict[str, Any]:
    """A run's label set; "" where no hardware was stated."""
    labels = {"engine": run.engine, "model": run.model, "workload": run.workload, "target": run.target}
    return labels | {"hardware": run.hardware or "", "simulated": run.simulated}


def show_as_latest(database: Database, connection: Connection, run: Row[Any], moment: datetime, **known: Any) -> None:
    """Unless one that ended later is shown.

    Args:
        database: says which dialect.
        connection: the transaction.
        run: its row.
        moment: when it ended.
        known: labels that the row does not have yet.
    """
    labels = labels_of(run) | known
    row = database.insert(latest_runs).values(**labels, run_id=run.id, ended_at=moment)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=list(latest_runs.primary_key.columns),
            set_={"run_id": run.id, "ended_at": moment},
            where=latest_runs.c.ended_at <= moment,
        )
    )
