"""A database that holds what the first version kept goes on under this one: nothing is lost, new columns are filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, insert

from bench_runner.measure.record import to_json
from services.store.database import Database, close, migrate, migration_config, open_database
from services.store.gauges import latest_for_metrics
from services.store.jobs import get_job, list_jobs, runs_of_job
from services.store.queue import claim
from services.store.records import pack
from services.store.results import finish
from services.store.rows import RunFilter, RunMetrics, RunStatus
from services.store.runs import get_records, get_run, list_runs
from services.store.schema import schema_fault
from services.store.searches import searches_of_job
from services.store.summaries import figures_of_job
from services.store.targets import get_target
from services.store.workers import list_workers
from tests.fakes.records import make_record
from tests.fakes.results import make_result

#: A RunSpec's fields that the first version did not know.
NEWER = ("scrape_interval_s", "calibration")
LOOP = {"arrival": {"kind": "closed_loop", "concurrency": 4}}
STEADY = {"arrival": {"kind": "constant", "rate_per_s": 3.0}}
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def old_result(**more: Any) -> dict[str, Any]:
    result = make_result(**more)
    result["spec"] = {name: value for name, value in result["spec"].items() if name not in NEWER}
    return result


RESULTS = {"ended": old_result(workload=LOOP, version="0.11.0"), "failed": old_result(version=None)}
RESULTS["failed"] |= {"summary": {}, "outcome": "failed", "error": "it broke"}
SPECS = {name: result["spec"] for name, result in RESULTS.items()}
SPECS |= {"queued": old_result(target={"flag_class": "matched"})["spec"], "lost": old_result(workload=STEADY)["spec"]}


@pytest.fixture
def grown(empty_database_url: str) -> Iterator[Database]:
    """A database of the first version with some of everything in it, migrated."""
    database = open_database(empty_database_url)
    with database.write() as connection:
        command.upgrade(migration_config(connection), "0001")
        fill(connection)
    migrate(empty_database_url)
    yield database
    close(database)


def fill(connection: Connection) -> None:
    """Rows as the first version wrote them, by its own schema."""
    kept = MetaData()
    kept.reflect(connection)

    def put(table: str, *rows: Mapping[str, Any]) -> None:
        for row in rows:
            given = {name: value for name, value in row.items() if value is not None}
            connection.execute(insert(kept.tables[table]).values(given))

    at = CREATED.replace(tzinfo=None) if connection.dialect.name == "sqlite" else CREATED
    job = {"id": "job1", "name": "old", "spec": {"targets": ["a"]}, "labels": {"team": "x"}, "priority": 0}
    put("jobs", job | {"created_at": at, "idempotency_key": "key", "body_digest": "d"})
    put("job_labels", {"job_id": "job1", "key": "team", "value": "x"})
    put(
        "targets",
        {"name": "a", "engine": "vllm", "spec": SPECS["ended"]["target"], "description": "", "created_at": at},
    )
    put("workers", {"name": "w0", "started_at": at, "seen_at": at, "run_id": None, "version": "0.1.0"})
    put("runs", *(run_row(position, name, at) for position, name in enumerate(SPECS)))
    put("documents", *({"run_id": name, "spec": spec, "result": RESULTS.get(name)} for name, spec in SPECS.items()))
    put("run_resources", *({"run_id": name, "resource": f"own:{name}"} for name in SPECS))
    packed, count = pack(to_json(make_record(k)) for k in range(3))
    put("records", {"run_id": "ended", "records": count, "packing": "zlib-jsonl", "data": packed})
    tried = {"attempt": 1, "worker": "w0", "started_at": at}
    put("attempts", *(tried | {"run_id": name, "ended": "result", "ended_at": at} for name in RESULTS))
    put("attempts", tried | {"run_id": "lost"})
    lease = {"resource": "own:lost", "run_id": "lost", "attempt": 1, "worker": "w0", "expires_at": at}
    put("resource_leases", lease)
    shown = {name: SPECS["ended"]["target"][name] for name in ("engine", "model", "hardware")}
    shown |= {"workload": "tiny", "target": "a", "simulated": False}
    put("latest_runs", shown | {"run_id": "ended", "ended_at": at})


def run_row(position: int, name: str, at: datetime) -> dict[str, Any]:
    target = SPECS[name]["target"]
    row = {field: target[field] for field in ("engine", "model", "hardware", "precision", "endpoint")}
    row |= {"id": name, "job_id": "job1", "position": position, "priority": 0, "status": "queued", "target": "a"}
    row |= {"workload": "tiny", "repeat": position, "spec_digest": "d", "resources": [f"own:{name}"], "created_at": at}
    row |= {"attempt": 0, "lost_attempts": 0, "cancel_requested": False, "reason_codes": []}
    if name == "lost":
        row |= {"status": "running", "attempt": 1, "worker": "w0", "started_at": at, "lease_expires_at": at}
    if name in RESULTS:
        result = RESULTS[name]
        row |= {"status": result["outcome"], "attempt": 1, "worker": "w0", "started_at": at, "ended_at": at}
        row |= {"result_attempt": 1, "validity": result["validity"]["state"], "simulated": False}
        row |= {"failures": result["failures"], "error": result["error"], "workload_digest": result["workload_digest"]}
        row |= {metric: result["summary"].get(metric) for metric in ("duration_s", "output_tokens_per_s", "requests")}
    return row


def test_what_the_first_version_kept_is_read_as_it_was(grown: Database) -> None:
    assert schema_fault(grown) is None
    job = get_job(grown, "job1")
    assert (job.labels, job.idempotency_key, job.created_at) == ({"team": "x"}, "key", CREATED)
    assert job.counts == {"completed": 1, "failed": 1, "queued": 1, "running": 1}
    assert [job.id for job in list_jobs(grown).items] == ["job1"]
    assert [run.id for run in runs_of_job(grown, "job1")] == list(SPECS)
    assert searches_of_job(grown, "job1") == []
    detail = get_run(grown, "ended")
    assert (detail.spec, detail.result, detail.records) == (SPECS["ended"], RESULTS["ended"], 3)
    assert [record["index"] for record in get_records(grown, "ended")] == [0, 1, 2]
    assert [run.id for run in latest_for_metrics(grown, 10)[0]] == ["ended"]
    assert get_target(grown, "a").spec == SPECS["ended"]["target"]
    assert figures_of_job(grown, "job1")["ended"]["duration_s"] == RESULTS["ended"]["summary"]["duration_s"]


def test_new_columns_are_filled_from_what_is_kept(grown: Database) -> None:
    runs = {run.id: run for run in runs_of_job(grown, "job1")}
    assert {name: run.concurrency for name, run in runs.items()} == {
        "ended": 4,
        "failed": 10,
        "queued": 10,
        "lost": None,
    }
    assert {name: run.engine_version for name, run in runs.items()} == dict.fromkeys(runs) | {"ended": "0.11.0"}
    classes = {name: run.flag_class for name, run in runs.items()}
    assert classes == dict.fromkeys(runs, "as-shipped") | {"queued": "matched"}
    assert [run.id for run in list_runs(grown, RunFilter(flag_class=("matched",))).items] == ["queued"]
    summary = RESULTS["ended"]["summary"]
    assert runs["ended"].metrics.tokens_per_s_per_user_p50 == pytest.approx(summary["tokens_per_s_per_user"]["p50"])
    assert runs["ended"].metrics.output_tokens_per_s_per_gpu == pytest.approx(summary["output_tokens_per_s_per_gpu"])
    assert runs["failed"].metrics == RunMetrics()
    fastest = list_runs(grown, RunFilter(), sort="-tokens_per_s_per_user_p50").items[0]
    assert fastest.id == "ended"


def test_what_waited_and_what_ran_is_carried_out(grown: Database) -> None:
    taken = []
    while (claimed := claim(grown, "w1", 60.0)) is not None:
        taken.append((claimed.run_id, claimed.attempt))
        assert finish(grown, claimed, make_result(), [to_json(make_record(0))])
    assert sorted(taken) == [("lost", 2), ("queued", 1)]
    assert get_job(grown, "job1").counts == {"completed": 3, "failed": 1}
    assert get_run(grown, "lost").run.status is RunStatus.COMPLETED


def test_a_worker_of_the_first_version_is_remembered(grown: Database) -> None:
    assert list_workers(grown) == [], "it was seen long ago"
    with grown.read() as connection:
        kept = MetaData()
        kept.reflect(connection, only=["workers"])
        (row,) = connection.execute(kept.tables["workers"].select()).all()
    assert (row.name, row.open_files) == ("w0", None)
    assert row.seen_at.replace(tzinfo=UTC) - CREATED < timedelta(days=1)
