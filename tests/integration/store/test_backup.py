"""A backup is the same bytes from either database, and gives the same database back."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import MetaData, event

from bench_runner.measure.record import to_json
from services.domain.errors import BadInput, Conflict
from services.domain.key import Role
from services.store.backup import restore_backup, write_backup
from services.store.database import Database, close, migrate, migration_config, open_database
from services.store.jobs import get_job
from services.store.keys import create_key, is_any_made, list_keys
from services.store.queue import claim
from services.store.results import finish
from services.store.retention import sweep
from services.store.runs import get_records, get_run
from services.store.schema import schema_fault
from services.store.targets import create_target
from services.store.workers import beat
from tests.fakes.history import one_run
from tests.fakes.jobs import planned, put
from tests.fakes.postgres import PostgresServer
from tests.fakes.records import make_record
from tests.fakes.results import make_result

#: Carried out by the queue. A Postgres of a thousand comes of the other's backup: restored, and backed up again.
RUNS = {"sqlite": 1000, "postgresql": 200}


@pytest.fixture
def others(tmp_path: Path, postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """A new database of each kind."""
    urls = {"sqlite": f"sqlite:///{tmp_path / 'other.sqlite'}", "postgresql": postgres.create_database()}
    yield urls
    postgres.drop_database(urls["postgresql"])


def fill(database: Database) -> None:
    """Runs, nearly all with results and records, and some of everything else."""
    count = RUNS[database.dialect]
    result = make_result()
    result["environment"]["said"] = "µ ☃ 𝄞 and 1e-9"
    records = [to_json(make_record(k)) for k in range(3)]
    create_target(database, name="a", spec={"engine": "vllm", "é": [1, 2.5, None]})
    for number in range(count // 100):
        put(database, *(planned(k) for k in range(100)), labels={"number": str(number)}, priority=number % 3)
    for _ in range(count - 5):
        claimed = claim(database, "w1", 60.0)
        assert claimed is not None
        assert finish(database, claimed, result, records)
    put(database, planned(0), planned(1, lengths_from=0), planned(2, lengths_from=0))
    assert claim(database, "w2", 60.0) is not None
    beat(database, "w2", None, "0.1.0")


def test_backup_and_restore_of_a_thousand_runs_give_the_same_bytes(
    database: Database, others: dict[str, str], tmp_path: Path
) -> None:
    fill(database)
    first = tmp_path / "first"
    count = write_backup(database, first)
    assert count > 5 * RUNS[database.dialect]
    again = tmp_path / "again"
    write_backup(database, again)
    assert again.read_bytes() == first.read_bytes()
    for kind, url in others.items():
        other = open_database(url)
        assert restore_backup(other, first) == count
        assert schema_fault(other) is None
        copy = tmp_path / kind
        assert write_backup(other, copy) == count
        assert copy.read_bytes() == first.read_bytes(), kind
        close(other)


def test_a_restored_database_goes_on(database: Database, others: dict[str, str], tmp_path: Path) -> None:
    run_id = one_run(database)
    job = put(database)
    write_backup(database, tmp_path / "backup")
    for url in others.values():
        other = open_database(url)
        restore_backup(other, tmp_path / "backup")
        assert get_run(other, run_id) == get_run(database, run_id)
        assert list(get_records(other, run_id)) == list(get_records(database, run_id))
        claimed = claim(other, "w1", 60.0)
        assert claimed is not None
        assert finish(other, claimed, make_result(), [])
        assert get_job(other, job.id).status == "completed"
        close(other)


def columns_of_the_first_version(folder: Path) -> dict[str, set[str]]:
    database = open_database(f"sqlite:///{folder / 'first.sqlite'}")
    with database.write() as connection:
        command.upgrade(migration_config(connection), "0001")
        kept = MetaData()
        kept.reflect(connection)
    close(database)
    return {table.name: {*table.c.keys()} for table in kept.tables.values()}


def test_a_backup_of_an_older_version_is_brought_up_to_this_one(database: Database, tmp_path: Path) -> None:
    run_id = one_run(database)
    whole = tmp_path / "whole"
    write_backup(database, whole)
    first = columns_of_the_first_version(tmp_path)
    lines = [json.loads(line) for line in gzip.decompress(whole.read_bytes()).splitlines()]
    lines[0]["revision"] = "0001"
    for table, row in lines[1:-1]:
        for name in row.keys() - first[table]:
            del row[name]
    old = tmp_path / "old"
    old.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    other = open_database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    restore_backup(other, old)
    assert schema_fault(other) is None
    assert get_run(other, run_id).run == get_run(database, run_id).run
    close(other)


@pytest.mark.parametrize("revision", ["0001", "0003"])
def test_a_database_that_is_not_migrated_yet_is_backed_up_as_it_is(
    database: Database, tmp_path: Path, revision: str
) -> None:
    run_id = one_run(database)
    run, records = get_run(database, run_id).run, list(get_records(database, run_id))
    with database.write() as connection:
        command.downgrade(migration_config(connection), revision)
    old = tmp_path / "old"
    count = write_backup(database, old)
    assert json.loads(gzip.decompress(old.read_bytes()).splitlines()[0])["revision"] == revision
    other = open_database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    assert restore_backup(other, old) == count
    assert schema_fault(other) is None
    assert get_run(other, run_id).run == run
    assert list(get_records(other, run_id)) == records
    close(other)


@pytest.mark.parametrize(
    "newer",
    ["UPDATE alembic_version SET version_num = '9999'", "ALTER TABLE runs ADD COLUMN not_known VARCHAR"],
)
def test_what_this_version_would_leave_out_is_not_backed_up(database: Database, tmp_path: Path, newer: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(newer)
    with pytest.raises(BadInput) as error:
        write_backup(database, tmp_path / "backup")
    assert error.value.problems[0].mend == "back it up with the version that made it"
    assert not list(tmp_path.glob("*backup*"))


def spoilt(whole: bytes) -> dict[str, bytes]:
    lines = gzip.decompress(whole).splitlines(keepends=True)
    newer = json.dumps(json.loads(lines[0]) | {"revision": "9999"}).encode() + b"\n"
    return {
        "no gzip": b"hello",
        "empty": b"",
        "cut in the middle": whole[: len(whole) // 2],
        "without its end": gzip.compress(b"".join(lines[:-1])),
        "a row less": gzip.compress(b"".join([*lines[:-2], lines[-1]])),
        "of a newer version": gzip.compress(b"".join([newer, *lines[1:]])),
        "something else": gzip.compress(b'{"a": 1}\n'),
        "nested without an end": gzip.compress(lines[0] + b"[" * 100_000),
    }


def odd_lines(row: dict[str, Any]) -> dict[str, tuple[object, str]]:
    """Lines that stand where a row of jobs should, and what is said of them."""
    short = {name: value for name, value in row.items() if name not in ("name", "priority")}
    return {
        "no row": (["jobs"], "line 2 is neither a row nor the count of them"),
        "a number": (5, "line 2 is neither"),
        "nothing": (None, "line 2 is neither"),
        "columns of its own": (["jobs", {"nope": 1}], "line 2, a row of jobs: it lacks, or has besides, body_digest"),
        "without columns": (["jobs", short], "line 2, a row of jobs: it lacks, or has besides, name, priority"),
        "a list for a row": (["jobs", [1]], "line 2: there is no row of a table 'jobs'"),
        "another table": (["users", {}], "line 2: there is no row of a table 'users'"),
        "a key for the API": (["api_keys", {}], "line 2: there is no row of a table 'api_keys'"),
        "no time": (["jobs", row | {"created_at": "soon"}], "line 2: jobs.created_at cannot be 'soon'"),
        "a number for a time": (["jobs", row | {"created_at": 5}], "line 2: jobs.created_at cannot be '5'"),
        "a text for a number": (["jobs", row | {"priority": "high"}], "line 2: jobs.priority cannot be 'high'"),
        "a number too large": (["jobs", row | {"priority": 2**70}], "line 2: jobs.priority cannot be"),
        "nothing for a name": (["jobs", row | {"name": None}], "line 2: jobs.name cannot be 'None'"),
        "a row that names none": (
            ["job_labels", {"job_id": "none", "key": "k", "value": "v"}],
            "lines 2 to 2, rows of",
        ),
        "a sum for a count": ({"rows": "many"}, "it is cut short: 0 rows of many"),
    }


def test_what_is_no_whole_backup_is_refused_and_leaves_nothing(
    database: Database, others: dict[str, str], tmp_path: Path
) -> None:
    one_run(database)
    write_backup(database, tmp_path / "whole")
    for name, data in spoilt((tmp_path / "whole").read_bytes()).items():
        path = tmp_path / "spoilt"
        path.write_bytes(data)
        for url in others.values():
            other = open_database(url)
            with pytest.raises(BadInput, match="no whole backup"):
                restore_backup(other, path)
            # nothing of it is there, so the next one is not refused for it
            assert schema_fault(other) == "is not migrated; `enginebench serve` does it at its start", name
            close(other)


def test_a_file_of_odd_lines_is_refused_with_the_line(database: Database, tmp_path: Path) -> None:
    put(database)
    write_backup(database, tmp_path / "whole")
    lines = [json.loads(line) for line in gzip.decompress((tmp_path / "whole").read_bytes()).splitlines()]
    for name, (line, said) in odd_lines(lines[1][1]).items():
        path = tmp_path / "odd"
        path.write_bytes(
            gzip.compress("".join(json.dumps(one) + "\n" for one in (lines[0], line, {"rows": 1})).encode())
        )
        with database.write() as connection:
            command.downgrade(migration_config(connection), "base")
        with pytest.raises(BadInput) as error:
            restore_backup(database, path)
        (problem,) = error.value.problems
        assert problem.field == str(path), name
        assert problem.problem.startswith(f"is no whole backup: {said}"), name


def test_large_rows_are_put_in_few_at_once(database: Database, tmp_path: Path) -> None:
    for _ in range(50):
        one_run(database)
    write_backup(database, tmp_path / "whole")
    other = open_database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    at_once: dict[str, int] = {}

    def count(
        _connection: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
    ) -> None:
        if statement.startswith("INSERT INTO") and many:
            table = statement.split()[2]
            at_once[table] = max(at_once.get(table, 0), len(parameters))

    event.listen(other.engine, "before_cursor_execute", count)
    restore_backup(other, tmp_path / "whole")
    assert (at_once["records"], at_once["documents"], at_once["runs"]) == (20, 20, 50)
    close(other)


def test_keys_stay_where_they_were_made(database: Database, tmp_path: Path) -> None:
    """A backup is handed around, and an older one would let in again whoever was shut out since."""
    one_run(database)
    write_backup(database, tmp_path / "without")
    key, text = create_key(database, name="ci", role=Role.ADMIN)
    write_backup(database, tmp_path / "with")
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
    assert key.id.encode() not in gzip.decompress((tmp_path / "with").read_bytes())
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    migrate(url)
    other = open_database(url)
    kept, _ = create_key(other, name="own", role=Role.READ)
    restore_backup(other, tmp_path / "with")
    assert [one.id for one in list_keys(other)] == [kept.id]
    assert is_any_made(other)
    assert text not in (tmp_path / "other.sqlite").read_bytes().decode("latin-1")
    close(other)


def test_a_database_with_something_in_it_is_not_written_over(
    database: Database, others: dict[str, str], tmp_path: Path
) -> None:
    one_run(database)
    write_backup(database, tmp_path / "whole")
    with pytest.raises(Conflict, match="holds jobs"):
        restore_backup(database, tmp_path / "whole")
    for url in others.values():
        migrate(url)
        other = open_database(url)
        beat(other, "w1", None, "0.1.0")
        sweep(other, timedelta(days=1))
        assert restore_backup(other, tmp_path / "whole") > 0
        close(other)


def test_a_database_of_an_older_version_is_not_filled(
    database: Database, others: dict[str, str], tmp_path: Path
) -> None:
    write_backup(database, tmp_path / "whole")
    for url in others.values():
        other = open_database(url)
        with other.write() as connection:
            command.upgrade(migration_config(connection), "0001")
        with pytest.raises(Conflict, match="is of schema 0001, and the backup of "):
            restore_backup(other, tmp_path / "whole")
        close(other)


def test_a_file_that_cannot_be_written_leaves_none_behind(database: Database, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_backup(database, tmp_path / "taken")
    assert [path.name for path in tmp_path.glob("*taken*")] == ["taken"]
