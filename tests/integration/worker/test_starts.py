"""A worker holds an engine up for the bursts of one start, and for nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench_runner.errors import RunError
from bench_runner.load.contract import RunControl
from bench_runner.outcome import Notebook, RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import utc_now
from engines.errors import LaunchFailed
from engines.target import HeldServer, Site
from services.domain.errors import Unavailable
from services.store.database import Database
from services.store.gauges import state_counts
from services.store.jobs import cancel_job, get_job
from services.store.queue import claim, renew
from services.store.rows import ClaimedRun, Job, Renewal, RunStatus
from services.store.runs import get_run
from services.worker import execute, keeper
from tests.fakes.jobs import planned, put
from tests.fakes.worker import PATIENCE_S, FakeRuns, await_true, running_worker


@dataclass(slots=True)
class Engines(FakeRuns):
    """Runs that take up an engine which lasts until its holder is closed; what happened, in order."""

    happened: list[str] = field(default_factory=list)
    #: names of starts that come to nothing
    dead: tuple[str, ...] = ()
    #: runs that end by an error, as "start 0"
    breaking: dict[int, str] = field(default_factory=dict)
    starts: int = 0

    def __call__(self, spec: RunSpec, *, control: RunControl, site: Site, held: HeldServer | None = None) -> RunOutcome:
        """As `bench_runner.runner.run`."""
        assert held is not None
        count = len(self.specs)
        if not held.failures and held.id is None:
            self._bring_up(held)
        self.happened.append(f"run {spec.repeat}")
        if count in self.breaking:
            self.specs.append(spec)
            held.is_settled = False
            return Notebook(spec, utc_now()).close(RunError(self.breaking[count]))
        for failure in held.failures.values():
            self.specs.append(spec)
            return Notebook(spec, utc_now()).close(RunError(str(failure)))
        return FakeRuns.__call__(self, spec, control=control, site=site, held=held)

    def _bring_up(self, held: HeldServer) -> None:
        held.id = f"s{self.starts}"
        self.starts += 1
        self.happened.append(f"start {held.id}")
        if held.id in self.dead:
            held.failures["", False, "{}"] = LaunchFailed(f"{held.id} has no memory for its weights")
            return

        def down(name: str = held.id) -> None:
            self.happened.append(f"stop {name}")
            held.id, held.is_settled = None, True

        held._stack.callback(down)


def two_starts(database: Database, bursts: int = 2) -> Job:
    runs = [
        planned(k, target="a", resources=("gpu:0",), start=k // bursts, burst=k % bursts) for k in range(2 * bursts)
    ]
    numbered = (
        planned(
            run.position,
            target="a",
            spec=run.spec.model_copy(update={"repeat": run.position}),
            resources=run.resources,
            start=run.start,
            burst=run.burst,
        )
        for run in runs
    )
    return put(database, *numbered)


def finished() -> Engines:
    engines = Engines()
    engines.finish.set()
    return engines


def ended(database: Database, job: Job) -> bool:
    return get_job(database, job.id).status in ("completed", "failed", "cancelled")


def test_each_start_has_its_engine_and_all_its_bursts(database: Database, database_url: str, tmp_path: Path) -> None:
    job = two_starts(database)
    engines = finished()
    with running_worker(database_url, tmp_path / "state", engines):
        await_true(lambda: ended(database, job), "the job ends")
    assert engines.happened == [
        "start s0", "run 0", "run 1", "stop s0",
        "start s1", "run 2", "run 3", "stop s1",
    ]  # fmt: skip
    assert get_job(database, job.id).counts == {"completed": 4}
    assert list((tmp_path / "state" / "results").iterdir()) == []


def test_a_run_without_starts_has_no_engine_held(database: Database, database_url: str, tmp_path: Path) -> None:
    job = put(database)
    runs = FakeRuns()
    runs.finish.set()
    with running_worker(database_url, tmp_path / "state", runs):
        await_true(lambda: ended(database, job), "the job ends")
    assert runs.holders == [None]


def test_an_engine_that_cannot_be_started_fails_the_bursts_of_its_start(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = two_starts(database)
    engines = finished()
    engines.dead = ("s0",)
    with running_worker(database_url, tmp_path / "state", engines):
        await_true(lambda: ended(database, job), "the job ends")
    assert engines.happened == ["start s0", "run 0", "run 1", "start s1", "run 2", "run 3", "stop s1"]
    found = [get_run(database, f"{job.id}-0000{k}").run for k in range(4)]
    assert [run.status for run in found] == [RunStatus.FAILED] * 2 + [RunStatus.COMPLETED] * 2
    assert {run.error for run in found[:2]} == {"s0 has no memory for its weights"}


def test_a_burst_that_was_cut_short_ends_its_start(database: Database, database_url: str, tmp_path: Path) -> None:
    job = two_starts(database, bursts=3)
    engines = finished()
    engines.breaking = {1: "the run's own time limit ran out"}
    with running_worker(database_url, tmp_path / "state", engines):
        await_true(lambda: ended(database, job), "the job ends")
    assert engines.happened[:6] == ["start s0", "run 0", "run 1", "stop s0", "start s1", "run 2"]
    assert get_job(database, job.id).counts == {"completed": 5, "failed": 1}


def test_what_is_cut_in_two_keeps_the_name_of_its_block(database: Database, database_url: str, tmp_path: Path) -> None:
    job = two_starts(database, bursts=3)
    engines = finished()
    engines.breaking = {1: "the run's own time limit ran out"}
    with running_worker(database_url, tmp_path / "state", engines):
        await_true(lambda: ended(database, job), "the job ends")
    blocks = [held.block for held in engines.holders if held is not None]
    assert len({id(held) for held in engines.holders}) == 3
    assert (blocks[0], *blocks[2:]) == (blocks[1], blocks[2], blocks[2], blocks[2])
    assert blocks[0] not in (None, blocks[2])


def test_a_cancelled_job_has_its_engine_stopped_before_the_card_is_free(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = two_starts(database)
    engines = Engines()
    with running_worker(database_url, tmp_path / "state", engines):
        assert engines.started.wait(30)
        cancel_job(database, job.id)
        await_true(lambda: ended(database, job), "the job is cancelled")
        assert engines.happened == ["start s0", "run 0", "stop s0"]


def test_a_worker_that_ends_stops_the_engine_and_leaves_the_bursts_to_another(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    job = two_starts(database)
    engines = Engines()
    with running_worker(database_url, tmp_path / "a", engines, drain_s=60.0) as (thread, stop):
        assert engines.started.wait(30)
        stop.set()
        engines.finish.set()
        thread.join(30)
    assert engines.happened == ["start s0", "run 0", "stop s0"]
    assert get_job(database, job.id).counts == {"completed": 1, "queued": 3}
    again = finished()
    with running_worker(database_url, tmp_path / "b", again, worker_id="w2"):
        await_true(lambda: ended(database, job), "the job ends")
    assert again.happened == ["start s0", "run 1", "stop s0", "start s1", "run 2", "run 3", "stop s1"]


def test_a_start_that_another_worker_took_over_has_its_engine_stopped(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = two_starts(database)
    engines = Engines(heeds_deadline=False)
    taken: list[ClaimedRun] = []

    def never_in_time(*_: object) -> Renewal:
        if not taken and (theirs := claim(database, "w2", 30.0)) is not None:
            taken.append(theirs)
        return Renewal(owned=not taken, cancel_requested=False)

    monkeypatch.setattr(keeper, "renew", never_in_time)
    with running_worker(database_url, tmp_path / "state", engines, lease_s=0.5):
        await_true(lambda: "stop s0" in engines.happened, "the engine is stopped")
        assert engines.happened == ["start s0", "run 0", "stop s0"]
        # whichever burst waits for what lapsed first: a resource that showed itself late is held a little longer
        assert [claimed.job_id for claimed in taken] == [job.id]


@pytest.mark.parametrize("at", ["another_waits", "finish_and_go_on"])
def test_no_engine_waits_for_a_database_that_is_away(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    job = two_starts(database)
    away = [True]
    real = getattr(execute, at)

    def flaky(*arguments: object) -> object:
        if away.pop() if away else False:
            raise Unavailable("the database is away")
        return real(*arguments)

    monkeypatch.setattr(execute, at, flaky)
    engines = finished()
    with running_worker(database_url, tmp_path / "state", engines):
        await_true(lambda: ended(database, job), "the job ends")
    assert engines.happened == [
        "start s0", "run 0", "stop s0",
        "start s1", "run 1", "stop s1",
        "start s2", "run 2", "run 3", "stop s2",
    ]  # fmt: skip
    assert get_job(database, job.id).counts == {"completed": 4}
    assert state_counts(database)["running"] == 0


@pytest.mark.parametrize("at", ["another_waits", "finish_and_go_on", "trace_run"])
def test_no_engine_outlives_its_lease_while_a_database_hangs(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    job = two_starts(database)
    hangs, back = threading.Event(), threading.Event()
    real = getattr(execute, at)

    def hanging(*arguments: object) -> object:
        hangs.set()
        assert back.wait(PATIENCE_S)
        return real(*arguments)

    def renewing(*arguments: Any) -> Renewal:
        if hangs.is_set() and not back.is_set():
            raise Unavailable("the database hangs")
        return renew(*arguments)

    monkeypatch.setattr(execute, at, hanging)
    monkeypatch.setattr(keeper, "renew", renewing)
    engines = finished()
    with running_worker(database_url, tmp_path / "state", engines, lease_s=2.0):
        try:
            await_true(lambda: "stop s0" in engines.happened, "the engine is stopped")
            assert engines.happened == ["start s0", "run 0", "stop s0"]
        finally:
            back.set()
        await_true(lambda: ended(database, job), "the job ends")
    assert get_job(database, job.id).counts == {"completed": 4}
