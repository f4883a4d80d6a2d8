"""The worker carries runs out once, whatever happens to it, to the database, or to the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.spec import Attached
from services.domain.errors import Unavailable
from services.settings import Settings
from services.store import queue, results
from services.store.database import Database, close, open_database
from services.store.jobs import cancel_job, get_job
from services.store.queue import claim, release
from services.store.rows import ClaimedRun, Renewal, RunStatus
from services.store.runs import get_run
from services.store.workers import list_workers
from services.worker import execute, keeper
from services.worker.loop import site_of
from services.worker.spool import write_result
from tests.fakes.jobs import planned, put, record, result, run_spec
from tests.fakes.postgres import PostgresServer, libpq_url
from tests.fakes.worker import FakeRuns, await_true, running_worker

NAMED_URL = "http://localhost:8000"


def status(database: Database, run_id: str) -> RunStatus:
    return get_run(database, run_id).run.status


def test_every_run_of_a_job_is_carried_out_once(database: Database, database_url: str, tmp_path: Path) -> None:
    job = put(database, *(planned(n) for n in range(4)))
    runs = FakeRuns()
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")
    assert len(runs.specs) == 4
    assert list((tmp_path / "state" / "results").iterdir()) == []


def test_a_worker_shows_that_it_gets_on(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its health check: while it looks for work, and in a run until that has taken longer than it may."""
    alive = tmp_path / "state" / "worker.alive"
    renewals: list[Renewal] = []

    def gets_on() -> bool:
        return alive.stat().st_mtime > 0

    def renew(*about: Any) -> Renewal:
        renewals.append(queue.renew(*about))
        return renewals[-1]

    monkeypatch.setattr(keeper, "renew", renew)
    runs = FakeRuns()
    with running_worker(database_url, tmp_path / "state", runs, lease_s=30.0):
        await_true(alive.exists, "it shows itself")
        os.utime(alive, (0, 0))
        await_true(gets_on, "it gets on without work")
        job = put(database)
        assert runs.started.wait(60)
        os.utime(alive, (0, 0))
        await_true(gets_on, "it gets on in a run")
        runs.finish.set()
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")
        runs.finish.clear()
        runs.started.clear()
        monkeypatch.setattr(keeper, "longest_s", lambda _spec: 0.0)
        job = put(database)
        assert runs.started.wait(60)
        await_true(lambda: get_run(database, f"{job.id}-00000").run.progress is not None, "its lease is kept")
        os.utime(alive, (0, 0))
        before = len(renewals)
        await_true(lambda: len(renewals) > before + 1, "it is kept on")
        assert not gets_on(), "the run has taken longer than it may"
        runs.finish.set()
        await_true(gets_on, "it gets on after it")


def test_a_run_shows_its_progress_and_its_worker(database: Database, database_url: str, tmp_path: Path) -> None:
    job = put(database)
    runs = FakeRuns()
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: get_run(database, f"{job.id}-00000").run.progress is not None, "progress is told")
        run = get_run(database, f"{job.id}-00000").run
        await_true(lambda: len(list_workers(database)) == 1, "the worker is seen")
        runs.finish.set()
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")
        (worker,) = list_workers(database)
    assert 0 < (worker.host.state_free_bytes or 0) < (worker.host.state_size_bytes or 0)
    assert list_workers(database) == [], "one that ended as it was told to is not missed"
    assert run.progress == {
        "stage": "measuring",
        "requests": 2,
        "sent": 2,
        "finished": 1,
        "failed": 0,
        "received_bytes": 10,
    }
    assert (run.worker, run.attempt) == ("w1", 1)


def test_a_worker_that_dies_of_an_error_is_missed(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> object:
        raise PermissionError("the folder of results is not ours")

    monkeypatch.setattr("services.worker.loop.waiting_results", broken)
    with (
        pytest.raises(AssertionError),
        running_worker(database_url, tmp_path / "state", FakeRuns()) as (worker, _),
    ):
        worker.join(30)
    assert [row.name for row in list_workers(database)] == ["w1"]


def test_the_loads_deadline_moves_with_the_lease(database: Database, database_url: str, tmp_path: Path) -> None:
    put(database)
    runs = FakeRuns()
    with running_worker(database_url, tmp_path / "state", runs):
        assert runs.started.wait(30)
        first_ns = runs.controls[0].deadline_ns
        assert first_ns is not None
        await_true(lambda: (runs.controls[0].deadline_ns or 0) > first_ns, "the deadline moves")
        assert (runs.controls[0].deadline_ns or 0) <= monotonic_ns() + 30e9
        runs.finish.set()


def test_a_cancelled_run_stops_and_keeps_what_it_measured(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = put(database, planned(0), planned(1, resources=("own:0",)))
    runs = FakeRuns()
    with running_worker(database_url, tmp_path / "state", runs):
        assert runs.started.wait(30)
        cancel_job(database, job.id)
        await_true(lambda: get_job(database, job.id).status == "cancelled", "the job is cancelled")
    detail = get_run(database, f"{job.id}-00000")
    assert detail.result is not None
    assert len(runs.specs) == 1


def test_a_server_that_the_api_knew_by_name_only_is_held_by_its_address(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    spec = run_spec()
    named = spec.model_copy(update={"target": spec.target.model_copy(update={"reach": Attached(url=NAMED_URL)})})
    put(database, planned(0, resources=("server:127.0.0.1:8000",)))
    job = put(database, planned(0, spec=named, resources=("server:localhost:8000",)))
    other = claim(database, "other", 300.0)
    assert other is not None
    runs = FakeRuns()
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: len(get_run(database, f"{job.id}-00000").attempts) == 1, "the run is taken up")
        await_true(lambda: status(database, f"{job.id}-00000") is RunStatus.QUEUED, "and waits for the other")
        assert runs.specs == []
        release(database, other)
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")


def test_a_worker_that_ends_gives_its_run_back(database: Database, database_url: str, tmp_path: Path) -> None:
    job = put(database)
    runs = FakeRuns()
    with running_worker(database_url, tmp_path / "state", runs) as (thread, stop):
        assert runs.started.wait(30)
        stop.set()
        thread.join(30)
    detail = get_run(database, f"{job.id}-00000")
    assert detail.run.status is RunStatus.QUEUED
    assert [attempt.ended for attempt in detail.attempts] == ["released"]
    assert claim(database, "w2", 30.0) is not None


def test_a_worker_that_ends_lets_its_run_finish_within_the_grace(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = put(database, planned(0), planned(1))
    runs = FakeRuns()
    with running_worker(database_url, tmp_path / "state", runs, drain_s=60.0) as (thread, stop):
        assert runs.started.wait(30)
        stop.set()
        sleep_s(0.3)
        runs.finish.set()
        thread.join(30)
    assert status(database, f"{job.id}-00000") is RunStatus.COMPLETED
    assert status(database, f"{job.id}-00001") is RunStatus.QUEUED


def test_a_run_that_breaks_ends_as_failed_with_the_reason(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = put(database, planned(0))
    runs = FakeRuns(error=RuntimeError("a fault of ours"))
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: get_job(database, job.id).status == "failed", "the job fails")
    assert get_run(database, f"{job.id}-00000").run.error == "internal error: RuntimeError: a fault of ours"
    assert len(runs.specs) == 1


def test_a_lost_run_is_stopped_and_leaves_no_second_result(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put(database)
    runs = FakeRuns(heeds_deadline=False)
    taken_over: list[ClaimedRun] = []

    def never_in_time(*_: object) -> Renewal:
        if not taken_over and (mine := claim(database, "w2", 30.0)) is not None:
            taken_over.append(mine)
        return Renewal(owned=not taken_over, cancel_requested=False)

    monkeypatch.setattr(keeper, "renew", never_in_time)
    with running_worker(database_url, tmp_path / "state", runs, lease_s=0.5):
        await_true(lambda: bool(taken_over), "another worker takes the run")
        await_true(lambda: runs.controls[0].cancelled, "the first is told")
        assert status(database, f"{job.id}-00000") is RunStatus.RUNNING
        assert results.finish(database, taken_over[0], result(), [])
    detail = get_run(database, f"{job.id}-00000")
    assert (detail.run.status, detail.run.worker) == (RunStatus.COMPLETED, "w2")


def test_a_run_whose_lease_lapsed_in_an_outage_is_queued_again(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put(database)
    runs = FakeRuns()
    away = [True]

    def flaky(*arguments: object) -> Renewal:
        if away[0]:
            raise Unavailable("the database is away")
        return queue.renew(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keeper, "renew", flaky)
    with running_worker(database_url, tmp_path / "state", runs, lease_s=0.5):
        await_true(lambda: len(runs.specs) >= 2, "the run is tried again")
        away[0] = False
        runs.finish.set()
        await_true(lambda: get_job(database, job.id).status == "completed", "the run ends")
    detail = get_run(database, f"{job.id}-00000")
    assert detail.run.status is RunStatus.COMPLETED
    assert {attempt.ended for attempt in detail.attempts} == {"released", "result"}


def test_a_result_waits_on_disk_while_the_database_is_away(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put(database)
    runs = FakeRuns()
    runs.finish.set()
    refusals = [0]

    def away(*_: object) -> bool:
        refusals[0] += 1
        raise Unavailable("the database is away")

    monkeypatch.setattr(execute, "finish", away)
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: refusals[0] >= 2, "delivery is tried again")
    assert len(list((tmp_path / "state" / "results").iterdir())) == 1
    assert status(database, f"{job.id}-00000") is RunStatus.RUNNING
    monkeypatch.setattr(execute, "finish", results.finish)
    with running_worker(database_url, tmp_path / "state", runs, worker_id="w2"):
        await_true(lambda: get_job(database, job.id).status == "completed", "the next life delivers")
    assert len(runs.specs) == 1
    assert get_run(database, f"{job.id}-00000").run.worker == "w1"


def test_a_result_delivered_twice_is_one_result(database: Database, database_url: str, tmp_path: Path) -> None:
    job = put(database)
    claimed = claim(database, "w0", 30.0)
    assert claimed is not None
    assert results.finish(database, claimed, result(), [record(0)])
    before = get_run(database, claimed.run_id)
    folder = tmp_path / "state" / "results"
    write_result(folder, run_id=claimed.run_id, attempt=1, worker="w0", result=result(rate=1.0), records=[])
    with running_worker(database_url, tmp_path / "state", FakeRuns()):
        await_true(lambda: not list(folder.iterdir()), "the file is delivered")
    assert get_run(database, claimed.run_id) == before
    assert get_job(database, job.id).counts == {"completed": 1}


def test_a_result_that_no_database_takes_ends_the_run_as_failed(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = put(database)
    claimed = claim(database, "w0", 30.0)
    assert claimed is not None
    folder = tmp_path / "state" / "results"
    bad = result() | {"summary": {"requests": {"no": "number"}}}
    write_result(folder, run_id=claimed.run_id, attempt=1, worker="w0", result=bad, records=[])
    with running_worker(database_url, tmp_path / "state", FakeRuns()):
        await_true(lambda: get_job(database, job.id).status == "failed", "the run ends")
        await_true(lambda: not list(folder.glob("*.jsonl")), "the file is out of the way")
    assert len(list((folder / "refused").iterdir())) == 1
    assert "its result could not be kept" in str(get_run(database, claimed.run_id).run.error)


def test_a_result_that_cannot_be_spooled_is_delivered_all_the_same(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = put(database)
    runs = FakeRuns()
    runs.finish.set()
    state = tmp_path / "state"
    state.mkdir()
    (state / "results").write_text("a file where the folder should be")
    with running_worker(database_url, state, runs):
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")


def test_two_workers_never_share_a_state_folder(database: Database, database_url: str, tmp_path: Path) -> None:
    put(database, planned(0), planned(1))
    first, second = FakeRuns(), FakeRuns()
    with running_worker(database_url, tmp_path / "state", first):
        assert first.started.wait(30)
        with running_worker(database_url, tmp_path / "state", second, worker_id="w2"):
            sleep_s(0.5)
            assert second.specs == []


def test_two_workers_share_the_queue(database: Database, database_url: str, tmp_path: Path) -> None:
    job = put(database, *(planned(n) for n in range(2)))
    first, second = FakeRuns(), FakeRuns()
    with (
        running_worker(database_url, tmp_path / "a", first),
        running_worker(database_url, tmp_path / "b", second, worker_id="w2"),
    ):
        assert first.started.wait(30)
        assert second.started.wait(30)
        first.finish.set()
        second.finish.set()
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")
    assert (len(first.specs), len(second.specs)) == (1, 1)


def test_what_a_killed_life_was_writing_is_cleared(database_url: str, tmp_path: Path) -> None:
    left = tmp_path / "state" / "spool-x"
    left.mkdir(parents=True)
    (left / "segment").write_bytes(b"bytes")
    with running_worker(database_url, tmp_path / "state", FakeRuns()):
        await_true(lambda: not left.exists(), "the folder is gone")


def test_the_site_follows_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_KEY", "value")
    settings = Settings(
        state_dir=tmp_path,
        secrets={"GPU_KEY": "https://gpu.example", "UNSET": "https://other.example"},
        allow_private_networks=("10.0.0.0/8",),
        allow_launch=True,
    )
    site = site_of(settings)
    assert {name: (secret.value, secret.origin) for name, secret in site.secrets.items()} == {
        "GPU_KEY": ("value", "https://gpu.example")
    }
    assert (site.allow_launch, site.state_dir) == (True, tmp_path)
    assert site.address_policy.refusal("10.1.2.3") is None


def test_connections_cut_under_a_running_worker_cost_nothing(
    postgres: PostgresServer, migrated_postgres: str, tmp_path: Path
) -> None:
    url = postgres.create_database(template=migrated_postgres)
    database = open_database(url)
    job = put(database, planned(0), planned(1))
    runs = FakeRuns()
    with running_worker(url, tmp_path / "state", runs):
        assert runs.started.wait(30)
        with psycopg.connect(libpq_url(url), autocommit=True) as admin:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            admin.execute(cut)
            runs.finish.set()
            admin.execute(cut)
        await_true(lambda: get_job(database, job.id).status == "completed", "the job completes")
    for number in (0, 1):
        attempts = get_run(database, f"{job.id}-0000{number}").attempts
        assert [attempt.ended for attempt in attempts].count("result") == 1
    close(database)
    postgres.drop_database(url)
