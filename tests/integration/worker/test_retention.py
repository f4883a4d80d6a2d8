"""A worker lets go of old request records by itself, where it is told for how long they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from services.api.app import create_app
from services.settings import read_settings
from services.store.database import Database
from services.store.jobs import get_job
from services.store.retention import Dropped, retention_so_far
from services.store.runs import get_run
from services.worker import retention
from tests.fakes.history import add_runs
from tests.fakes.jobs import put
from tests.fakes.results import make_result
from tests.fakes.worker import FakeRuns, await_true, running_worker
from tests.integration.store.test_retention import make_older


def test_old_records_go_between_runs_and_it_is_told(database: Database, database_url: str, tmp_path: Path) -> None:
    old, young = add_runs(database, make_result(), make_result(repeat=1))
    make_older(database, old)
    job = put(database)
    runs = FakeRuns()
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs, retention_days=30.0):
        await_true(lambda: retention_so_far(database).ended_at is not None, "a pass ends")
        await_true(lambda: get_job(database, job.id).status == "completed", "runs go on")
    assert (get_run(database, old).records, get_run(database, young).records) == (0, 2)
    assert retention_so_far(database).dropped.runs == 1
    settings = read_settings(database_url=database_url, retention_days=30.0)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        seen = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert seen["enginebench_retention_dropped_runs"].samples[0].value == 1
    assert seen["enginebench_retention_dropped_bytes"].samples[0].value > 0
    assert seen["enginebench_retention_failed"].samples[0].value == 0
    assert seen["enginebench_retention_last_pass_timestamp_seconds"].samples[0].value > 1.7e9


def test_without_a_policy_everything_is_kept(database: Database, database_url: str, tmp_path: Path) -> None:
    (old,) = add_runs(database, make_result())
    make_older(database, old)
    job = put(database)
    runs = FakeRuns()
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")
    assert get_run(database, old).records == 2
    assert retention_so_far(database).ended_at is None
    settings = read_settings(database_url=database_url)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        assert "enginebench_retention" not in client.get("/metrics").text


def test_a_pass_that_breaks_is_told_and_runs_go_on(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Dropped:
        raise ValueError("it broke")

    monkeypatch.setattr(retention, "sweep", broken)
    job = put(database)
    runs = FakeRuns()
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs, retention_days=30.0):
        await_true(lambda: get_job(database, job.id).status == "completed", "runs go on")
    assert retention_so_far(database).error == "ValueError: it broke"
    settings = read_settings(database_url=database_url, retention_days=30.0)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        assert "enginebench_retention_failed 1.0" in client.get("/metrics").text
