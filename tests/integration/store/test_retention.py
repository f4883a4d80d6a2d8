"""Request records go when they are old; everything else of their runs stays."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, update

from services.domain.errors import NotFound
from services.store.database import Database, close, now, open_database
from services.store.queue import claim
from services.store.results import finish
from services.store.retention import Dropped, drop_records, note_failure, retention_so_far, sweep
from services.store.runs import get_records, get_run
from services.store.tables import records, retention, runs
from tests.fakes.history import add_runs, one_run
from tests.fakes.jobs import planned, put, record, result
from tests.fakes.postgres import PostgresServer
from tests.fakes.results import make_result

MONTH = timedelta(days=30)


@pytest.fixture
def postgres_database(postgres: PostgresServer, migrated_postgres: str) -> Iterator[Database]:
    """Where rows are locked one by one; SQLite has one writer."""
    url = postgres.create_database(template=migrated_postgres)
    opened = open_database(url)
    yield opened
    close(opened)
    postgres.drop_database(url)


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


def add_old_runs(database: Database, count: int) -> None:
    """They ended two months ago, each with five bytes of records."""
    put(database, *(planned(k) for k in range(count)))
    with database.write() as connection:
        ids = connection.scalars(select(runs.c.id)).all()
        rows = [{"run_id": run_id, "records": 1, "packing": "zlib-jsonl", "data": b"12345"} for run_id in ids]
        connection.execute(records.insert(), rows)
        connection.execute(update(runs).values(status="completed"))
    make_older(database, *ids)


def test_more_than_one_batch_goes(database: Database) -> None:
    add_old_runs(database, 230)
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


def test_a_pass_goes_in_batches_and_the_next_is_due_a_day_later(database: Database) -> None:
    assert sweep(database, MONTH) == Dropped(0, 0), "the first pass has nothing to do"
    add_old_runs(database, 7)
    assert sweep(database, MONTH) is None, "it ended just now"
    at_once = timedelta(0)
    gone = [sweep(database, MONTH, at_once, batch=3) for _ in range(3)]
    assert gone == [Dropped(3, 15), Dropped(3, 15), Dropped(1, 5)]
    told = retention_so_far(database)
    assert (told.dropped, told.error) == (Dropped(7, 35), None)
    assert told.ended_at is not None
    assert sweep(database, MONTH) is None


def test_a_pass_goes_on_where_another_worker_left_it(database: Database) -> None:
    add_old_runs(database, 5)
    assert sweep(database, MONTH, batch=2) == Dropped(2, 10)
    with database.read() as connection:
        row = connection.execute(select(retention)).one()
        first = connection.scalars(select(records.c.run_id).order_by(records.c.run_id)).all()[:2]
    assert row.after == first[-1]
    assert row.ended_at is None
    assert sweep(database, MONTH, batch=50) == Dropped(3, 15)
    assert retention_so_far(database).dropped == Dropped(5, 25)


def test_many_workers_at_once_let_go_of_each_run_once(database: Database) -> None:
    add_old_runs(database, 60)

    def work(_: int) -> int:
        went = 0
        while retention_so_far(database).ended_at is None:
            gone = sweep(database, MONTH, batch=4)
            went += 0 if gone is None else gone.runs
        return went

    with ThreadPoolExecutor(4) as workers:
        assert sum(workers.map(work, range(4))) == 60
    assert retention_so_far(database).dropped == Dropped(60, 300)


@contextmanager
def _held_by_another(database: Database) -> Iterator[Connection]:
    with database.write() as connection:
        connection.execute(select(retention).with_for_update()).all()
        yield connection


def test_while_another_is_at_it_nobody_waits(postgres_database: Database) -> None:
    database = postgres_database
    assert sweep(database, MONTH) == Dropped(0, 0)
    add_old_runs(database, 3)
    with _held_by_another(database):
        assert sweep(database, MONTH, timedelta(0)) is None
    assert sweep(database, MONTH, timedelta(0)) == Dropped(3, 15)


def test_a_failure_is_told_until_a_pass_ends(database: Database) -> None:
    note_failure(database, "ValueError: it broke")
    assert retention_so_far(database).error == "ValueError: it broke"
    assert sweep(database, MONTH) == Dropped(0, 0)
    assert retention_so_far(database).error is None
