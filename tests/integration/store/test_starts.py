"""Bursts of one start: what one holds goes over to the next with its result, and nobody comes between."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select

from engines.clock import sleep_s
from services.domain.job import PlannedRun
from services.store import results, tables
from services.store.database import Database
from services.store.jobs import cancel_job, get_job
from services.store.queue import claim, hold, release, renew
from services.store.results import finish, finish_and_go_on
from services.store.rows import ClaimedRun, Job, RunStatus
from services.store.runs import cancel_run, get_run
from services.store.starts import StartOver, another_waits
from tests.fakes.jobs import planned, put, record, result

LONG_S = 300.0
CARD = ("gpu:0",)


def in_starts(starts: int = 2, bursts: int = 2, targets: str = "ab") -> list[PlannedRun]:
    """There and back, as a job of starts has them."""
    order = [(name, start) for start in range(starts) for name in (targets if start % 2 == 0 else targets[::-1])]
    cells = [(name, start, burst) for name, start in order for burst in range(bursts)]
    return [
        planned(position, target=name, resources=CARD, start=start, burst=burst)
        for position, (name, start, burst) in enumerate(cells)
    ]


def must_claim(database: Database, worker: str = "w1") -> ClaimedRun:
    claimed = claim(database, worker, LONG_S)
    assert claimed is not None
    return claimed


def go_on(database: Database, claimed: ClaimedRun, **more: Any) -> ClaimedRun:
    return finish_and_go_on(database, claimed, result(**more), [record(0)], LONG_S)


def leases(database: Database) -> dict[str, tuple[str, str]]:
    with database.read() as connection:
        rows = connection.execute(select(tables.resource_leases)).all()
    return {row.resource: (row.run_id, row.worker) for row in rows}


def number(claimed: ClaimedRun) -> int:
    return int(claimed.run_id[-5:])


def test_the_next_burst_is_taken_up_with_the_result_of_the_one_before(database: Database) -> None:
    job = put(database, *in_starts())
    first = must_claim(database)
    assert (number(first), first.start) == (0, 0)
    assert another_waits(database, first)
    second = go_on(database, first)
    assert (number(second), second.start, second.attempt, second.worker) == (1, 0, 1, "w1")
    assert get_run(database, first.run_id).run.status is RunStatus.COMPLETED
    assert get_run(database, second.run_id).run.status is RunStatus.RUNNING
    assert leases(database) == {"gpu:0": (second.run_id, "w1")}
    assert renew(database, second, None, LONG_S).owned
    assert not renew(database, first, None, LONG_S).owned
    assert not another_waits(database, second), "what follows is of another start"
    with pytest.raises(StartOver):
        go_on(database, second)
    assert get_run(database, second.run_id).run.status is RunStatus.RUNNING, "nothing was kept"
    assert finish(database, second, result(), [])
    assert leases(database) == {}
    assert get_job(database, job.id).counts == {"completed": 2, "queued": 6}


def test_nobody_gets_the_card_between_two_bursts(database: Database) -> None:
    put(database, *in_starts(bursts=3))
    urgent = put(database, planned(0, resources=CARD), priority=9)
    first = must_claim(database, "w2")
    assert first.job_id == urgent.id
    assert finish(database, first, result(), [])
    burst = must_claim(database)
    put(database, planned(0, resources=CARD), priority=9)
    for _ in range(2):
        assert claim(database, "w2", LONG_S) is None
        burst = go_on(database, burst)
    assert claim(database, "w2", LONG_S) is None
    assert finish(database, burst, result(), [])
    assert must_claim(database, "w2").start is None, "the start is over, and it is the urgent one's turn"


def test_starts_go_there_and_back(database: Database) -> None:
    put(database, *in_starts(starts=3))
    seen = []
    while (claimed := claim(database, "w1", LONG_S)) is not None:
        while another_waits(database, claimed):
            claimed = go_on(database, claimed)
        run = get_run(database, claimed.run_id).run
        seen.append(f"{run.target}{run.start}")
        assert finish(database, claimed, result(), [])
    assert seen == ["a0", "b0", "b1", "a1", "a2", "b2"]


def test_a_run_without_starts_has_no_next(database: Database) -> None:
    put(database, planned(0, resources=CARD), planned(1, resources=CARD))
    claimed = must_claim(database)
    assert not another_waits(database, claimed)
    with pytest.raises(StartOver):
        go_on(database, claimed)


def test_a_burst_that_was_taken_over_takes_nothing_up(database: Database) -> None:
    put(database, *in_starts())
    claimed = must_claim(database)
    release(database, claimed)
    again = must_claim(database, "w2")
    assert again.run_id == claimed.run_id
    with pytest.raises(StartOver):
        go_on(database, claimed)
    assert leases(database) == {"gpu:0": (again.run_id, "w2")}


def test_a_burst_whose_lease_has_lapsed_takes_nothing_up(database: Database) -> None:
    job = put(database, *in_starts())
    claimed = claim(database, "w1", 0.01)
    assert claimed is not None
    sleep_s(0.1)
    with pytest.raises(StartOver):
        go_on(database, claimed)
    assert finish(database, claimed, result(), [])
    assert get_job(database, job.id).counts == {"completed": 1, "queued": 7}


def test_cancelled_bursts_are_passed_over(database: Database) -> None:
    job = put(database, *in_starts(bursts=3))
    first = must_claim(database)
    cancel_run(database, f"{job.id}-00001")
    third = go_on(database, first)
    assert number(third) == 2
    cancel_job(database, job.id)
    assert renew(database, third, None, LONG_S).cancel_requested
    assert not another_waits(database, third)


def test_what_showed_itself_at_the_first_burst_is_held_for_all(database: Database) -> None:
    put(database, *in_starts())
    first = must_claim(database)
    assert hold(database, first, ["gpu:0", "server:late"], LONG_S)
    second = go_on(database, first)
    assert {*leases(database)} == {"gpu:0", "server:late"}
    assert renew(database, second, None, LONG_S).owned
    assert get_run(database, second.run_id).run.resources == ("gpu:0", "server:late")
    assert finish(database, second, result(), [])
    assert leases(database) == {}


def test_a_start_begins_when_all_its_lengths_are_known(database: Database) -> None:
    """Each arm on a card of its own, so that a second worker has its card free all the time."""
    cells = [(start, burst) for start in range(2) for burst in range(3)]
    givers = [
        planned(k, target="a", resources=("gpu:0",), start=start, burst=burst) for k, (start, burst) in enumerate(cells)
    ]
    takers = [
        planned(6 + k, target="b", resources=("gpu:1",), start=start, burst=burst, lengths_from=k)
        for k, (start, burst) in enumerate(cells)
    ]
    put(database, *givers, *takers)
    given = must_claim(database, "w1")
    for _ in range(2):
        given = go_on(database, given)
        assert claim(database, "w2", LONG_S) is None, "it would be a start for one burst"
    assert finish(database, given, result(), [record(0)])
    assert number(must_claim(database, "w1")) == 3, "the next start of the one that gives"
    taken = must_claim(database, "w2")
    seen = [number(taken)]
    while another_waits(database, taken):
        taken = go_on(database, taken)
        seen.append(number(taken))
    assert seen == [6, 7, 8]


def test_a_burst_whose_lengths_never_came_does_not_keep_its_start_from_beginning(database: Database) -> None:
    giver = planned(0, target="g", resources=("own:g",))
    bursts = [planned(k, target="a", resources=CARD, start=0, burst=k - 1) for k in (1, 2, 3)]
    put(database, giver, *bursts, planned(4, target="a", resources=CARD, start=0, burst=3, lengths_from=0))
    given = must_claim(database, "w2")
    assert claim(database, "w1", LONG_S) is None
    assert finish(database, given, result("failed"), [])
    burst = go_on(database, go_on(database, must_claim(database)))
    assert number(burst) == 3
    with pytest.raises(StartOver):
        go_on(database, burst)
    assert finish(database, burst, result(), [])
    assert claim(database, "w1", LONG_S) is None
    last = get_run(database, f"{burst.job_id}-00004").run
    assert "whose output lengths it takes" in str(last.error)


def test_a_burst_that_is_cancelled_keeps_no_start_waiting_for_its_lengths(database: Database) -> None:
    giver = planned(0, target="g", resources=("own:g",))
    burst = planned(1, target="a", resources=CARD, start=0, burst=0)
    job = put(database, giver, burst, planned(2, target="a", resources=CARD, start=0, burst=1, lengths_from=0))
    assert number(must_claim(database, "w2")) == 0
    cancel_run(database, f"{job.id}-00002")
    assert number(must_claim(database)) == 1


def test_a_cancel_while_one_burst_hands_over_to_the_next_stops_that_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put(database, *in_starts(bursts=3))
    first = must_claim(database)
    keep, cancels = results._keep, threading.Thread(target=cancel_job, args=(database, job.id))

    def and_is_cancelled_meanwhile(*given: Any) -> Any:
        cancels.start()
        sleep_s(0.5)
        return keep(*given)

    monkeypatch.setattr(results, "_keep", and_is_cancelled_meanwhile)
    second = go_on(database, first)
    cancels.join()
    assert renew(database, second, None, LONG_S).cancel_requested
    assert get_job(database, job.id).counts == {"completed": 1, "running": 1, "cancelled": 10}


def test_a_run_keeps_the_start_that_it_was_really_carried_out_in(database: Database) -> None:
    job: Job = put(database, *in_starts())
    first = must_claim(database)
    second = go_on(database, first, environment={"simulated": True, "start": {"id": "s1", "burst": 0}})
    assert finish(database, second, result(), [])
    one, other = (get_run(database, f"{job.id}-0000{k}").run for k in (0, 1))
    assert (one.start, one.burst, one.start_id) == (0, 0, "s1")
    assert (other.start, other.burst, other.start_id) == (0, 1, None)
