"""Claims, leases, fences: no run twice, no resource shared, nothing lost."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from engines.clock import sleep_s
from services.store import tables
from services.store.database import Database, close, open_database
from services.store.jobs import cancel_job, get_job
from services.store.queue import MAX_LOST_ATTEMPTS, claim, hold, release, renew
from services.store.results import finish
from services.store.rows import ClaimedRun, RunStatus, WorkerHost
from services.store.runs import cancel_run, get_run
from services.store.workers import beat, list_workers, sign_off
from tests.fakes.jobs import planned, put, record, result, run_spec

#: Longer than any test.
LONG_S = 300.0
#: Over before `lapse` returns.
SHORT_S = 0.05


def lapse() -> None:
    """Wait until a SHORT_S lease is over."""
    sleep_s(SHORT_S + 0.05)


def must_claim(database: Database, worker: str = "w1", lease_s: float = LONG_S) -> ClaimedRun:
    claimed = claim(database, worker, lease_s)
    assert claimed is not None
    return claimed


def leases(database: Database) -> dict[str, str]:
    with database.read() as connection:
        rows = connection.execute(select(tables.resource_leases)).all()
    return {row.resource: row.run_id for row in rows}


def test_an_empty_queue_gives_nothing(database: Database) -> None:
    assert claim(database, "w1", LONG_S) is None


def test_the_highest_priority_comes_first_then_the_oldest(database: Database) -> None:
    low = put(database, planned(0), planned(1))
    high = put(database, planned(0, resources=("other",)), priority=5)
    order = [must_claim(database).run_id for _ in range(3)]
    assert order == [f"{high.id}-00000", f"{low.id}-00000", f"{low.id}-00001"]


def test_a_claim_carries_the_spec_with_its_attempt(database: Database) -> None:
    put(database, planned(spec=run_spec(repeat=3)))
    claimed = must_claim(database)
    assert claimed.run_spec == run_spec(repeat=3)
    release(database, claimed)
    assert must_claim(database).run_spec.attempt == 2


def test_a_run_whose_resource_is_taken_is_passed_over(database: Database) -> None:
    job = put(
        database,
        planned(0, resources=("gpu:0",)),
        planned(1, resources=("gpu:0", "gpu:1")),
        planned(2, resources=("gpu:1",)),
    )
    first, second = must_claim(database), must_claim(database)
    assert [first.run_id[-1], second.run_id[-1]] == ["0", "2"]
    assert claim(database, "w1", LONG_S) is None
    assert leases(database) == {"gpu:0": first.run_id, "gpu:1": second.run_id}
    assert finish(database, first, result(), [])
    assert claim(database, "w1", LONG_S) is None
    assert finish(database, second, result(), [])
    assert must_claim(database).run_id == f"{job.id}-00001"


def test_many_claims_at_once_take_every_run_once_and_share_no_resource(database_url: str) -> None:
    database = open_database(database_url)
    gpus = 4
    put(database, *(planned(n, resources=tuple({f"gpu:{n % gpus}", f"gpu:{n * 7 % gpus}"})) for n in range(24)))
    taken: Counter[str] = Counter()
    held: Counter[str] = Counter()
    lock = threading.Lock()

    def work(name: str) -> None:
        own = open_database(database_url)
        idle = 0
        while idle < 40:
            claimed = claim(own, name, LONG_S)
            if claimed is None:
                idle += 1
                sleep_s(0.01)
                continue
            idle = 0
            resources = get_run(own, claimed.run_id).run.resources
            with lock:
                taken[claimed.run_id] += 1
                held.update(resources)
                assert all(held[resource] == 1 for resource in resources)
            sleep_s(0.002)
            with lock:
                held.subtract(resources)
            assert finish(own, claimed, result(), [])
        close(own)

    with ThreadPoolExecutor(6) as pool:
        for worker in [pool.submit(work, f"w{n}") for n in range(6)]:
            worker.result()
    assert len(taken) == 24
    assert set(taken.values()) == {1}
    assert leases(database) == {}
    close(database)


def test_a_renewed_lease_outlives_its_first_term(database: Database) -> None:
    put(database)
    claimed = must_claim(database, lease_s=SHORT_S)
    renewal = renew(database, claimed, {"stage": "measuring", "sent": 1}, LONG_S)
    lapse()
    assert (renewal.owned, renewal.cancel_requested) == (True, False)
    assert claim(database, "w2", LONG_S) is None
    assert get_run(database, claimed.run_id).run.progress == {"stage": "measuring", "sent": 1}


def test_a_lapsed_run_is_taken_over_and_its_first_owner_told(database: Database) -> None:
    put(database)
    first = must_claim(database, lease_s=SHORT_S)
    lapse()
    second = must_claim(database, "w2")
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    assert not renew(database, first, None, LONG_S).owned
    assert not release(database, first)
    assert renew(database, second, None, LONG_S).owned
    ended = [attempt.ended for attempt in get_run(database, first.run_id).attempts]
    assert ended == ["lost", None]


def test_a_lapsed_lease_can_be_renewed_until_a_resource_is_taken(database: Database) -> None:
    put(database, planned(0, resources=("gpu:0",)))
    first = must_claim(database, lease_s=SHORT_S)
    lapse()
    assert renew(database, first, None, SHORT_S).owned
    put(database, planned(0, resources=("gpu:0",)), priority=9)
    lapse()
    other = must_claim(database, "w2")
    assert other.run_id != first.run_id
    assert not renew(database, first, None, LONG_S).owned


def test_a_run_that_loses_every_worker_ends_as_failed(database: Database) -> None:
    put(database)
    for attempt in range(1, MAX_LOST_ATTEMPTS + 1):
        claimed = must_claim(database, lease_s=SHORT_S)
        assert claimed.attempt == attempt
        lapse()
    assert claim(database, "w1", LONG_S) is None
    run = get_run(database, claimed.run_id).run
    assert run.status is RunStatus.FAILED
    assert run.error == "its worker was lost 5 times while it ran"
    assert get_job(database, claimed.job_id).status == "failed"


def test_a_drained_run_is_queued_again_and_not_counted_as_lost(database: Database) -> None:
    put(database)
    for attempt in range(1, MAX_LOST_ATTEMPTS + 3):
        claimed = must_claim(database)
        assert claimed.attempt == attempt
        assert release(database, claimed)
    assert leases(database) == {}
    assert get_run(database, claimed.run_id).run.status is RunStatus.QUEUED


def test_a_run_cancelled_while_it_runs_is_told_at_the_renewal(database: Database) -> None:
    put(database)
    claimed = must_claim(database)
    assert cancel_run(database, claimed.run_id).status is RunStatus.RUNNING
    renewal = renew(database, claimed, None, LONG_S)
    assert (renewal.owned, renewal.cancel_requested) == (True, True)
    assert finish(database, claimed, result("cancelled"), [])
    assert get_run(database, claimed.run_id).run.status is RunStatus.CANCELLED


def test_a_cancelled_run_whose_worker_is_lost_ends_without_another_claim(database: Database) -> None:
    put(database, planned(0), planned(1))
    claimed = must_claim(database, lease_s=SHORT_S)
    cancel_run(database, claimed.run_id)
    lapse()
    assert must_claim(database).run_id != claimed.run_id
    assert get_run(database, claimed.run_id).run.status is RunStatus.CANCELLED


def test_a_cancelled_run_that_is_drained_ends(database: Database) -> None:
    put(database)
    claimed = must_claim(database)
    cancel_run(database, claimed.run_id)
    assert release(database, claimed)
    assert get_run(database, claimed.run_id).run.status is RunStatus.CANCELLED


def test_cancelling_a_job_ends_what_waits_and_asks_what_runs(database: Database) -> None:
    job = put(database, planned(0), planned(1), planned(2))
    claimed = must_claim(database)
    cancelled = cancel_job(database, job.id)
    assert (cancelled.status, cancelled.counts) == ("running", {"running": 1, "cancelled": 2})
    assert renew(database, claimed, None, LONG_S).cancel_requested
    assert finish(database, claimed, result("cancelled"), [])
    assert get_job(database, job.id).status == "cancelled"
    assert cancel_job(database, job.id).cancel_requested_at == cancelled.cancel_requested_at
    assert claim(database, "w1", LONG_S) is None


def test_matched_lengths_come_from_the_other_runs_records(database: Database) -> None:
    job = put(database, planned(0), planned(1, lengths_from=0))
    first = must_claim(database)
    assert claim(database, "w2", LONG_S) is None
    assert finish(database, first, result(), [record(0, 5), record(1, 3, "timeout")])
    second = must_claim(database)
    assert second.run_id == f"{job.id}-00001"
    assert second.run_spec.workload.matched_output_tokens == (5, 8)


def test_matched_lengths_draw_the_prompts_of_the_other_runs_attempt(database: Database) -> None:
    put(database, planned(0), planned(1, lengths_from=0))
    release(database, must_claim(database))
    first = must_claim(database)
    assert finish(database, first, result(), [record(0), record(1)])
    second = must_claim(database)
    assert (second.attempt, second.run_spec.attempt) == (1, 2)


@pytest.mark.parametrize(
    ("outcome", "tokens", "reason"),
    [
        ("failed", 8, "ended as failed"),
        ("completed", None, "did not count its tokens"),
    ],
)
def test_a_run_without_lengths_to_match_ends_as_failed(
    database: Database, outcome: str, tokens: int | None, reason: str
) -> None:
    job = put(database, planned(0), planned(1, lengths_from=0))
    assert finish(database, must_claim(database), result(outcome), [record(0, tokens), record(1, tokens)])
    assert claim(database, "w1", LONG_S) is None
    run = get_run(database, f"{job.id}-00001").run
    assert run.status is RunStatus.FAILED
    assert reason in str(run.error)
    assert leases(database) == {}


def test_a_worker_that_beats_is_seen(database: Database) -> None:
    beat(database, "w1", None, "0.1.0")
    beat(database, "w1", "run", "0.1.0", WorkerHost(1024, 10, 2**40))
    (worker,) = list_workers(database)
    assert (worker.name, worker.run_id, worker.version) == ("w1", "run", "0.1.0")
    assert worker.host == WorkerHost(1024, 10, 2**40)
    assert 0 <= worker.silent_s < LONG_S


def test_a_worker_that_signs_off_is_not_missed(database: Database) -> None:
    beat(database, "w1", None, "0.1.0")
    beat(database, "w2", None, "0.1.0")
    sign_off(database, "w1")
    sign_off(database, "never there")
    assert [worker.name for worker in list_workers(database)] == ["w2"]


def test_a_resource_that_shows_itself_late_is_held_and_renewed_with_the_others(database: Database) -> None:
    put(database)
    claimed = must_claim(database)
    assert hold(database, claimed, ["own:0", "server:late"], LONG_S)
    assert leases(database) == {"own:0": claimed.run_id, "server:late": claimed.run_id}
    assert renew(database, claimed, None, LONG_S).owned
    assert release(database, claimed)
    assert leases(database) == {}


def test_a_run_whose_late_resource_is_taken_waits_for_it(database: Database) -> None:
    put(database, planned(0, resources=("server:one",)), planned(1, resources=("server:alias",)))
    first, second = must_claim(database, "w1"), must_claim(database, "w2")
    assert not hold(database, second, ["server:one"], LONG_S)
    assert leases(database) == {"server:one": first.run_id}
    assert claim(database, "w2", LONG_S) is None
    assert finish(database, first, result(), [])
    again = must_claim(database, "w2")
    assert (again.run_id, again.attempt) == (second.run_id, 2)
    assert set(leases(database)) == {"server:one", "server:alias"}


def test_a_run_that_was_taken_over_holds_nothing_more(database: Database) -> None:
    put(database)
    lost = must_claim(database, "w1", SHORT_S)
    lapse()
    must_claim(database, "w2")
    assert not hold(database, lost, ["server:late"], LONG_S)
    assert "server:late" not in leases(database)
