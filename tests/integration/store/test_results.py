"""A run's result is kept once, whole, and by the right attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.clock import sleep_s
from services.domain.errors import NotFound
from services.store.database import Database
from services.store.exclusion import exclude_run, include_run
from services.store.gauges import latest_for_metrics, queue_depth, running_progress, state_counts
from services.store.jobs import get_job
from services.store.queue import claim, release, renew
from services.store.results import finish
from services.store.rows import ClaimedRun, RunStatus
from services.store.runs import cancel_run, get_records, get_run
from services.store.summaries import figures_of_job
from tests.fakes.jobs import planned, put, record, result, run_spec


def must_claim(database: Database, worker: str = "w1", lease_s: float = 300.0) -> ClaimedRun:
    claimed = claim(database, worker, lease_s)
    assert claimed is not None
    return claimed


def take_over(database: Database) -> tuple[ClaimedRun, ClaimedRun]:
    """A run's first attempt, lapsed, and the second that took it over."""
    put(database)
    first = must_claim(database, "w1", 0.05)
    sleep_s(0.1)
    return first, must_claim(database, "w2")


def test_a_result_fills_row_documents_attempt_and_records(database: Database) -> None:
    put(database, labels={"team": "a"})
    claimed = must_claim(database)
    assert finish(database, claimed, result(), [record(0), record(1)])
    detail = get_run(database, claimed.run_id)
    run = detail.run
    assert (run.status, run.validity, run.simulated) == (RunStatus.COMPLETED, "VALID", True)
    assert (run.reason_codes, run.failures, run.labels) == (("early_eos",), {"timeout": 1}, {"team": "a"})
    metrics = run.metrics
    assert (metrics.output_tokens_per_s, metrics.duration_s, metrics.ttft_p99_s) == (1000.0, 1.5, 0.4)
    assert (metrics.tpot_p50_s, metrics.input_tokens_per_s, metrics.requests) == (None, None, 2)
    assert detail.result == result()
    assert detail.spec == claimed.run_spec.model_dump(mode="json")
    assert [(a.attempt, a.worker, a.ended) for a in detail.attempts] == [(1, "w1", "result")]
    assert detail.records == 2
    assert list(get_records(database, claimed.run_id)) == [record(0), record(1)]
    assert run.ended_at is not None
    assert run.started_at is not None
    assert run.created_at <= run.started_at <= run.ended_at


def test_the_same_result_again_changes_nothing(database: Database) -> None:
    put(database)
    claimed = must_claim(database)
    assert finish(database, claimed, result(), [record(0)])
    before = get_run(database, claimed.run_id)
    assert finish(database, claimed, result(rate=1.0), [record(0), record(1)])
    assert get_run(database, claimed.run_id) == before


def test_a_late_result_is_taken_while_no_other_is_there(database: Database) -> None:
    first, second = take_over(database)
    assert finish(database, first, result(rate=1.0), [record(0)])
    assert not renew(database, second, None, 300.0).owned
    assert not finish(database, second, result(rate=2.0), [record(0), record(1)])
    detail = get_run(database, first.run_id)
    assert (detail.run.metrics.output_tokens_per_s, detail.run.worker, detail.records) == (1.0, "w1", 1)
    assert [attempt.ended for attempt in detail.attempts] == ["result", "superseded"]


def test_an_attempt_that_a_late_result_overtook_is_ended_even_if_its_worker_never_speaks_again(
    database: Database,
) -> None:
    first, second = take_over(database)
    assert finish(database, first, result(), [])
    assert [attempt.ended for attempt in get_run(database, first.run_id).attempts] == ["result", "superseded"]
    assert not release(database, second)
    assert [attempt.ended for attempt in get_run(database, first.run_id).attempts] == ["result", "superseded"]


def test_a_late_result_is_refused_once_a_later_attempt_has_finished(database: Database) -> None:
    first, second = take_over(database)
    assert finish(database, second, result(rate=2.0), [record(0), record(1)])
    assert not finish(database, first, result(rate=1.0), [record(0)])
    detail = get_run(database, first.run_id)
    assert (detail.run.metrics.output_tokens_per_s, detail.run.worker, detail.records) == (2.0, "w2", 2)


def test_a_late_result_leaves_the_running_attempt_its_resources(database: Database) -> None:
    first, second = take_over(database)
    put(database, planned(resources=("own:0",)))
    assert finish(database, first, result(), [])
    assert claim(database, "w3", 300.0) is None
    assert not finish(database, second, result(), [])
    assert claim(database, "w3", 300.0) is not None


def test_a_late_result_of_a_run_that_was_left_out_is_kept_and_not_shown(database: Database) -> None:
    put(database)
    claimed = must_claim(database)
    cancel_run(database, claimed.run_id)
    release(database, claimed)
    assert get_run(database, claimed.run_id).run.status is RunStatus.CANCELLED
    exclude_run(database, claimed.run_id, "the card was shared")
    assert finish(database, claimed, result(), [])
    assert get_run(database, claimed.run_id).run.status is RunStatus.COMPLETED
    assert latest_for_metrics(database, 10) == ([], 0)
    include_run(database, claimed.run_id)
    assert [run.id for run in latest_for_metrics(database, 10)[0]] == [claimed.run_id]


@pytest.mark.parametrize(("worker", "attempt"), [("w2", 1), ("w1", 2)])
def test_a_result_of_an_attempt_that_never_was_is_refused(database: Database, worker: str, attempt: int) -> None:
    put(database)
    claimed = must_claim(database)
    stranger = replace(claimed, attempt=attempt, worker=worker)
    assert not finish(database, stranger, result(), [])
    assert get_run(database, claimed.run_id).run.status is RunStatus.RUNNING


def test_words_that_no_database_carries_are_kept_readable(database: Database) -> None:
    put(database)
    claimed = must_claim(database)
    assert finish(database, claimed, result("failed", error="nul \x00 and half \ud800"), [])
    assert get_run(database, claimed.run_id).run.error == "nul \ufffd and half ?"


def test_documents_and_records_that_no_database_carries_are_kept_readable(database: Database) -> None:
    """A result from an older version's spool may hold anything an engine said."""
    unclean = result(
        environment={"simulated": True, "version": "=1.0\x00\ud800", "\x00": [float("nan")]},
        summary={"output_tokens_per_s": 1.0, "said": "\ud800"},
        failures={"k\x00": 1},
    )
    job = put(database, spec={"name": "\x00\udfff"})
    claimed = must_claim(database)
    assert renew(database, claimed, {"stage": "\x00"}, 300.0).owned
    assert finish(database, claimed, unclean, [record(0) | {"failure_message": "\x00\ud800", "ttft_s": float("inf")}])
    detail = get_run(database, claimed.run_id)
    assert detail.result is not None
    assert detail.result["environment"] == {"simulated": True, "version": "=1.0\ufffd?", "\ufffd": [None]}
    assert detail.run.failures == {"k\ufffd": 1}
    (kept,) = get_records(database, claimed.run_id)
    assert (kept["failure_message"], kept["ttft_s"]) == ("\ufffd?", None)
    assert figures_of_job(database, job.id)[claimed.run_id] == {"output_tokens_per_s": 1.0}
    assert get_job(database, job.id).spec == {"name": "\ufffd?"}


def test_a_run_without_records_gives_none_and_an_unknown_one_is_named(database: Database) -> None:
    job = put(database)
    assert list(get_records(database, f"{job.id}-00000")) == []
    with pytest.raises(NotFound):
        get_records(database, "nothing")


def test_the_newest_result_of_each_label_set_is_shown(database: Database) -> None:
    other = planned(1, spec=run_spec(engine="tgi", hardware="A100-80GB"))
    put(database, planned(0), other, planned(2), planned(3))
    runs = [must_claim(database) for _ in range(4)]
    for claimed, rate in zip(runs[:3], (1.0, 2.0, 3.0), strict=True):
        assert finish(database, claimed, result(rate=rate), [])
    assert finish(database, runs[3], result("cancelled"), [])
    shown = {run.engine: run.metrics.output_tokens_per_s for run in latest_for_metrics(database, 10)[0]}
    assert shown == {"vllm": 3.0, "tgi": 2.0}
    newest, dropped = latest_for_metrics(database, 1)
    assert ([run.engine for run in newest], dropped) == (["vllm"], 1)


def test_states_are_counted(database: Database) -> None:
    put(database, *(planned(n) for n in range(4)))
    running, done = must_claim(database), must_claim(database)
    renew(database, running, {"stage": "warming"}, 300.0)
    finish(database, done, result(), [])
    assert queue_depth(database) == 2
    assert state_counts(database) == {"queued": 2, "running": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert [(run.id, run.progress) for run in running_progress(database)] == [(running.run_id, {"stage": "warming"})]
