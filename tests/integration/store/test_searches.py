"""A search grows run by run: nothing lost, nothing doubled, whoever dies or cancels."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from bench_runner.plan.presets import PRESETS
from engines.clock import sleep_s
from engines.spec import TargetSpec
from services.domain.expansion import expand
from services.domain.job import JobSpec
from services.store.database import Database
from services.store.jobs import cancel_job, enqueue, get_job, runs_of_job
from services.store.queue import MAX_LOST_ATTEMPTS, claim, renew
from services.store.results import finish
from services.store.rows import ClaimedRun, Job, RunStatus
from services.store.searches import SearchState, advance, searches_of_job
from tests.fakes.jobs import result

SLO = {"ttft_s": 1.0}
SEARCH = {"low": 1, "high": 16, "slo": SLO, "attainment": 0.9, "confidence": 0.9, "resolution": 0.3}
WORKLOAD = {
    "name": "tiny",
    "requests": 1,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 8}},
    "output_tokens": {"kind": "fixed", "tokens": 8},
}


def put(database: Database, targets: tuple[str, ...] = ("a",), **search: Any) -> Job:
    body = {"targets": targets, "workloads": [WORKLOAD], "search": {**SEARCH, **search}}
    job = JobSpec.model_validate(body)
    target = {"engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://127.0.0.1:1"}}
    stored = {
        name: TargetSpec.model_validate(target | {"reach": {"kind": "attached", "url": f"http://127.0.0.1:{port}"}})
        for port, name in enumerate(targets, start=1)
    }
    runs = expand(job, stored, presets=PRESETS, stops_early=lambda _: False, seed=1)
    return enqueue(database, spec=job.model_dump(mode="json"), name="", labels={}, priority=0, runs=runs)[0]


def take(database: Database, lease_s: float = 300.0) -> ClaimedRun:
    claimed = claim(database, "w1", lease_s)
    assert claimed is not None
    return claimed


def records(claimed: ClaimedRun, ttft_s: float) -> list[dict[str, Any]]:
    row = {"failure_kind": None, "send_lag_s": 0.0, "ttft_s": ttft_s, "tpot_s": 0.1, "e2e_s": 2.0}
    requests = claimed.run_spec.workload.requests
    return [row | {"engine_output_tokens": 8, "scheduled_ns": k * 10**9} for k in range(requests)]


def end(database: Database, claimed: ClaimedRun, ttft_s: float = 0.1, state: str = "VALID", code: str = "") -> None:
    reasons = [{"code": code, "severity": "inconclusive", "message": f"because of {code}"}] if code else []
    outcome = result(spec=claimed.run_spec.model_dump(mode="json"), validity={"state": state, "reasons": reasons})
    assert finish(database, claimed, outcome, records(claimed, ttft_s))


def rate_of(claimed: ClaimedRun) -> float:
    return float(claimed.run_spec.workload.arrival.rate_per_s)  # type: ignore[union-attr]


def only(database: Database, job: Job) -> SearchState:
    (state,) = searches_of_job(database, job.id)
    return state


def test_each_end_asks_for_the_next_until_there_is_a_verdict(database: Database) -> None:
    job = put(database)
    rates, repeats = [], []
    while (claimed := claim(database, "w1", 300.0)) is not None:
        assert get_job(database, job.id).status == "running"
        rates.append(rate_of(claimed))
        repeats.append(claimed.run_spec.repeat)
        end(database, claimed, ttft_s=0.1 if rate_of(claimed) < 5 else 2.0)
    state = only(database, job)
    assert state.verdict is not None
    assert rates[:4] == [1, 2, 4, 8]
    assert repeats == list(range(len(rates)))
    assert state.verdict["state"] == "found"
    assert (state.verdict["highest_meeting"], state.verdict["lowest_failing"]) == (
        max(r for r in rates if r < 5),
        5.657,
    )
    assert (state.runs, state.moving) == (len(rates), 0)
    assert get_job(database, job.id).status == "completed"
    runs = runs_of_job(database, job.id)
    assert [run.point for run in runs] == rates
    assert [run.workload for run in runs][:2] == ["tiny@rate=1", "tiny@rate=2"]


def test_searches_of_one_job_go_on_side_by_side(database: Database) -> None:
    job = put(database, targets=("a", "b"))
    while (claimed := claim(database, "w1", 300.0)) is not None:
        end(database, claimed, ttft_s=0.1 if rate_of(claimed) < 3 else 2.0)
    first, second = searches_of_job(database, job.id)
    assert first.verdict is not None
    assert first.verdict == second.verdict
    assert (first.target, second.target) == ("a", "b")
    runs = runs_of_job(database, job.id)
    assert [run.target for run in runs] == ["a", "b"] * first.runs
    assert [run.position for run in runs] == list(range(len(runs)))


def test_a_result_that_comes_twice_asks_once(database: Database) -> None:
    job = put(database)
    claimed = take(database)
    end(database, claimed)
    end(database, claimed)
    assert len(runs_of_job(database, job.id)) == 2


def test_a_late_result_after_another_attempt_has_taken_over_asks_once(database: Database) -> None:
    job = put(database)
    first = take(database, 0.05)
    sleep_s(0.1)
    second = take(database)
    assert second.run_id == first.run_id
    end(database, first)
    assert not renew(database, second, None, 300.0).owned
    assert not finish(database, second, result(), [])
    following = take(database)
    assert rate_of(following) == 2
    assert len(runs_of_job(database, job.id)) == 2


def test_an_end_that_is_not_kept_asks_for_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker or a database that dies at the worst moment: the next run is there with the result, or neither is."""
    job = put(database)
    claimed = take(database)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    def die_after(*given: Any) -> None:
        advance(*given)
        raise KeyboardInterrupt

    for dying in (die, die_after):
        monkeypatch.setattr("services.store.results.advance", dying)
        with pytest.raises(KeyboardInterrupt):
            end(database, claimed)
        (run,) = runs_of_job(database, job.id)
        assert run.status is RunStatus.RUNNING
    monkeypatch.undo()
    end(database, claimed)
    assert [run.status for run in runs_of_job(database, job.id)] == [RunStatus.COMPLETED, RunStatus.QUEUED]


def test_a_run_that_is_not_valid_is_repeated_and_then_the_search_says_so(database: Database) -> None:
    job = put(database)
    for _ in range(3):
        claimed = take(database)
        assert rate_of(claimed) == 1
        end(database, claimed, state="INCONCLUSIVE", code="client_cpu")
    assert claim(database, "w1", 300.0) is None
    verdict = only(database, job).verdict
    assert verdict is not None
    assert verdict["state"] == "inconclusive"
    assert "because of client_cpu" in verdict["words"]


def test_what_an_overloaded_engine_does_counts_against_the_rate(database: Database) -> None:
    job = put(database)
    end(database, take(database))
    end(database, take(database), ttft_s=2.0, state="INCONCLUSIVE", code="not_stationary")
    assert rate_of(take(database)) < 2
    assert {value.value: value.said for value in only(database, job).values} == {1: "meets", 2: "fails"}


def test_a_run_that_kills_its_workers_is_repeated_too(database: Database) -> None:
    job = put(database)
    for _ in range(MAX_LOST_ATTEMPTS):
        take(database, 0.01)
        sleep_s(0.05)
    following = take(database)
    assert [run.status for run in runs_of_job(database, job.id)] == [RunStatus.FAILED, RunStatus.RUNNING]
    assert rate_of(following) == 1


def test_cancel_ends_a_search_and_its_run_asks_for_no_other(database: Database) -> None:
    job = put(database)
    claimed = take(database)
    cancel_job(database, job.id)
    end(database, claimed)
    assert len(runs_of_job(database, job.id)) == 1
    state = only(database, job)
    assert (state.verdict, state.moving) == (None, 0)


def test_cancel_and_the_end_of_a_run_at_once_leave_nothing_queued(database: Database) -> None:
    for _ in range(10):
        job = put(database)
        claimed = take(database)
        ending = threading.Thread(target=end, args=(database, claimed))
        ending.start()
        cancel_job(database, job.id)
        ending.join()
        assert {run.status for run in runs_of_job(database, job.id)} <= {RunStatus.COMPLETED, RunStatus.CANCELLED}
