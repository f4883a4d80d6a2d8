"""Request records go when they are old; everything else of their runs stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from services.domain.errors import NotFound
from services.store.database import Database, now
from services.store.queue import claim
from services.store.results import finish
from services.store.retention import Dropped, drop_records
from services.store.runs import get_records, get_run
from services.store.tables import records, runs
from tests.fakes.history import add_runs, one_run
from tests.fakes.jobs import planned, put, record, result
from tests.fakes.results import make_result

MONTH = timedelta(days=30)


def make_older(database: Database, *run_ids: str) -> None:
    """They ended two months ago."""
    with database.write() as connection:
        moment = now(connection) - 2 * MONTH
        connection.execute(update(runs).where(runs.c.id.in_(run_ids)).values(ended_at=moment))


def size_of(database: Database, run_id: str) -> int:
    with database.read() as connection:
        return len(connection.execute(select(records.c.data).where(records.c.run_id == run_id)).scalar_one())


def test_old_records_go_and_results_stay(database: Database) -> None:
    old, young = add_runs(database, make_result(), make_result(repeat=1))
    make_older(database, old)
    before = get_run(database, old)
    size = size_of(database, old)
    assert drop_records(database, MONTH, dry_run=True) == Dropped(1, size)
    assert len(list(get_records(database, old))) == 2
    assert drop_records(database, MONTH) == Dropped(1, size)
    after = get_run(database, old)
    assert (after.run, after.result, after.records) == (before.run, before.result, 0)
    assert size_of(database, old) == 0
    with pytest.raises(NotFound, match="were let go of; its result is kept"):
        get_records(database, old)
    assert len(list(get_records(database, young))) == 2
    assert drop_records(database, MONTH) == Dropped(0, 0)


def test_more_than_one_batch_goes(database: Database) -> None:
    put(database, *(planned(k) for k in range(230)))
    with database.write() as connection:
        ids = connection.scalars(select(runs.c.id)).all()
        rows = [{"run_id": run_id, "records": 1, "packing": "zlib-jsonl", "data": b"12345"} for run_id in ids]
        connection.execute(records.insert(), rows)
        connection.execute(update(runs).values(status="completed"))
    make_older(database, *ids)
    assert drop_records(database, MONTH) == Dropped(230, 5 * 230)
    assert drop_records(database, MONTH) == Dropped(0, 0)


def test_lengths_that_a_run_still_wants_are_kept(database: Database) -> None:
    put(database, planned(0), planned(1, lengths_from=0))
    giver = claim(database, "w1", 60.0)
    assert giver is not None
    assert finish(database, giver, result(), [record(0), record(1)])
    make_older(database, giver.run_id)
    assert drop_records(database, MONTH) == Dropped(0, 0)
    taker = claim(database, "w1", 60.0)
    assert taker is not None
    assert taker.run_spec.workload.matched_output_tokens == (8, 8)
    assert finish(database, taker, result(), [])
    assert drop_records(database, MONTH).runs == 1


def test_a_run_without_records_is_none_of_it(database: Database) -> None:
    run_id = one_run(database)
    put(database)
    make_older(database, run_id)
    assert drop_records(database, MONTH).runs == 1
