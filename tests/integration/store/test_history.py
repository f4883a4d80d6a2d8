"""Jobs, runs and targets as they are asked for: filters, order, pages that stay put."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from services.domain.errors import BadInput, Conflict, NotFound
from services.store.database import Database, open_database
from services.store.jobs import cancel_job, get_job, list_jobs, runs_of_job
from services.store.queue import claim
from services.store.results import finish
from services.store.rows import Run, RunFilter
from services.store.runs import SORT_FIELDS, list_runs
from services.store.targets import create_target, delete_target, get_target, list_targets
from tests.fakes.jobs import planned, put, result, run_spec


def finish_all(database: Database, rates: list[float | None]) -> None:
    for rate in rates:
        claimed = claim(database, "w1", 300.0)
        assert claimed is not None
        assert finish(database, claimed, result(rate=rate), [])


def walk(database: Database, where: RunFilter | None = None, *, sort: str = "-created_at", limit: int = 3) -> list[Run]:
    """Every page, one after the other."""
    seen: list[Run] = []
    cursor = None
    while True:
        page = list_runs(database, where, sort=sort, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        seen += page.items
        if page.next_cursor is None:
            return seen
        cursor = page.next_cursor


def test_the_same_key_and_body_give_the_job_that_is_there(database: Database) -> None:
    first = put(database, idempotency_key="k", body_digest="b")
    again = put(database, idempotency_key="k", body_digest="b")
    assert again == first
    assert len(list_jobs(database).items) == 1


def test_the_same_key_with_another_body_is_refused(database: Database) -> None:
    put(database, idempotency_key="k", body_digest="b")
    with pytest.raises(Conflict, match="'k' was used for another body"):
        put(database, idempotency_key="k", body_digest="c")
    assert len(list_runs(database).items) == 1


def test_a_jobs_status_follows_its_runs(database: Database) -> None:
    job = put(database, planned(0), planned(1))
    assert (job.status, job.counts, job.started_at) == ("queued", {"queued": 2}, None)
    finish_all(database, [1.0])
    assert get_job(database, job.id).status == "running"
    finish_all(database, [1.0])
    done = get_job(database, job.id)
    assert (done.status, done.counts) == ("completed", {"completed": 2})
    assert done.started_at is not None
    assert done.ended_at is not None


def test_jobs_are_filtered_by_the_status_they_show(database: Database) -> None:
    finished = put(database, planned(0))
    finish_all(database, [1.0])
    running = put(database, planned(0), planned(1), labels={"team": "a", "tier": "x"})
    claim(database, "w1", 300.0)
    cancelled = put(database, labels={"team": "a"})
    cancel_job(database, cancelled.id)
    queued = put(database, labels={"team": "b"})
    by_status = {
        status: [job.id for job in list_jobs(database, status=[status]).items]
        for status in ("queued", "running", "completed", "failed", "cancelled")
    }
    assert by_status == {
        "queued": [queued.id],
        "running": [running.id],
        "completed": [finished.id],
        "failed": [],
        "cancelled": [cancelled.id],
    }
    assert [job.id for job in list_jobs(database, labels={"team": "a"}).items] == [cancelled.id, running.id]
    assert [job.id for job in list_jobs(database, labels={"team": "a", "tier": "x"}).items] == [running.id]


def test_job_pages_follow_each_other(database: Database) -> None:
    jobs = [put(database).id for _ in range(5)]
    first = list_jobs(database, limit=2)
    put(database)
    second = list_jobs(database, limit=2, cursor=first.next_cursor)
    third = list_jobs(database, limit=2, cursor=second.next_cursor)
    assert [job.id for page in (first, second, third) for job in page.items] == jobs[::-1]
    assert third.next_cursor is None


def test_runs_of_a_job_keep_its_order(database: Database) -> None:
    job = put(database, planned(0, lengths_from=1), planned(1), planned(2, target="b"))
    assert [(run.position, run.target) for run in runs_of_job(database, job.id)] == [
        (0, "target"),
        (1, "target"),
        (2, "b"),
    ]
    with pytest.raises(NotFound):
        runs_of_job(database, "nothing")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (RunFilter(engine=("tgi",)), [1, 2]),
        (RunFilter(engine=("tgi", "vllm")), [0, 1, 2, 3]),
        (RunFilter(model=("qwen",)), [2]),
        (RunFilter(hardware=("A100-80GB",)), [1]),
        (RunFilter(flag_class=("as-shipped",), engine=("vllm",)), [0, 3]),
        (RunFilter(flag_class=("matched",)), []),
        (RunFilter(target=("b",)), [3]),
        (RunFilter(workload=("chat",)), [3]),
        (RunFilter(status=("completed",)), [0]),
        (RunFilter(validity=("VALID",)), [0]),
        (RunFilter(validity=("INVALID",)), []),
        (RunFilter(simulated=True), [0]),
        (RunFilter(simulated=False), []),
        (RunFilter(labels={"team": "a"}), [0, 1, 2, 3]),
        (RunFilter(labels={"team": "a", "more": "x"}), []),
        (RunFilter(engine=("tgi",), model=("qwen",)), [2]),
        (RunFilter(target=("\x00",)), []),
    ],
)
def test_runs_are_filtered(database: Database, where: RunFilter, found: list[int]) -> None:
    job = put(
        database,
        planned(0),
        planned(1, spec=run_spec(engine="tgi", hardware="A100-80GB")),
        planned(2, spec=run_spec(engine="tgi", model="qwen")),
        planned(3, target="b", workload="chat"),
        labels={"team": "a"},
    )
    put(database, planned(0, target="other", spec=run_spec(engine="sglang")), labels={"team": "b"})
    finish_all(database, [1.0])
    assert [run.position for run in walk(database, where, sort="created_at") if run.job_id == job.id] == found
    assert all(run.job_id == job.id for run in walk(database, where))


def test_runs_are_filtered_by_time_and_job(database: Database) -> None:
    first, second = put(database), put(database)
    at = second.created_at
    assert [run.job_id for run in walk(database, RunFilter(job=first.id))] == [first.id]
    assert walk(database, RunFilter(since=at + timedelta(days=1))) == []
    assert [run.job_id for run in walk(database, RunFilter(since=first.created_at, until=at))] in (
        [first.id],
        [],  # SQLite's clock has milliseconds: both may be of the same one
    )
    assert len(walk(database, RunFilter(until=at + timedelta(seconds=1)))) == 2


@pytest.mark.parametrize("sort", ["output_tokens_per_s", "-output_tokens_per_s"])
def test_rows_without_a_value_come_last_either_way(database: Database, sort: str) -> None:
    put(database, *(planned(n) for n in range(8)))
    finish_all(database, [3.0, None, 1.0, 2.0, 2.0])
    rates = [run.metrics.output_tokens_per_s for run in walk(database, sort=sort)]
    known = sorted((1.0, 2.0, 2.0, 3.0), reverse=sort.startswith("-"))
    assert rates == [*known, None, None, None, None]


@pytest.mark.parametrize("field", SORT_FIELDS)
def test_every_sort_shows_every_run_once(database: Database, field: str) -> None:
    put(database, *(planned(n) for n in range(5)))
    finish_all(database, [5.0, 1.0, 3.0])
    up, down = walk(database, sort=field, limit=2), walk(database, sort=f"-{field}", limit=2)
    assert {run.id for run in up} == {run.id for run in down}
    assert len(up) == len(down) == 5


def test_pages_stay_put_while_runs_come_in(database: Database) -> None:
    put(database, *(planned(n) for n in range(7)))
    before = walk(database)
    cursor = None
    seen: list[str] = []
    while True:
        page = list_runs(database, limit=2, cursor=cursor)
        seen += [run.id for run in page.items]
        put(database, planned(0), planned(1), planned(2))
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [run.id for run in before]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "é",
        "!!!",
        "AAAA",
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(json.dumps(["-created_at", 5, "x"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["-created_at", "2026-01-01T00:00:00", "x"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["-created_at", None, "x"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["created_at", "2026-01-01T00:00:00+00:00", "x"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["-created_at", "2026-01-01T00:00:00+00:00", 3]).encode()).decode(),
    ],
)
def test_a_cursor_that_is_not_ours_is_named(database: Database, cursor: str) -> None:
    with pytest.raises(BadInput) as refusal:
        list_runs(database, cursor=cursor)
    assert [problem.field for problem in refusal.value.problems] == ["cursor"]


@pytest.mark.parametrize("value", ["x", True, 1e999, 2**70, [1]])
def test_a_cursor_with_another_kind_of_value_is_named(database: Database, value: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(["duration_s", value, "x"]).encode()).decode()
    with pytest.raises(BadInput, match="cursor"):
        list_runs(database, sort="duration_s", cursor=cursor)


def test_an_unknown_sort_is_named(database: Database) -> None:
    with pytest.raises(BadInput, match="sort"):
        list_runs(database, sort="-colour")


def test_targets_are_kept_by_name(database: Database) -> None:
    spec = run_spec().target.model_dump(mode="json")
    for name in ("b", "a", "c"):
        assert create_target(database, name=name, spec=spec).spec == spec
    with pytest.raises(Conflict, match="'a'"):
        create_target(database, name="a", spec=spec)
    first = list_targets(database, limit=2)
    second = list_targets(database, limit=2, cursor=first.next_cursor)
    assert [target.name for page in (first, second) for target in page.items] == ["a", "b", "c"]
    assert list_targets(database, engine="tgi").items == ()
    delete_target(database, "b")
    for gone in (get_target, delete_target):
        with pytest.raises(NotFound):
            gone(database, "b")


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_a_database_we_do_not_speak_to_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="database_url"):
        open_database(url)


def test_the_same_key_posted_at_once_makes_one_job(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(put, database, idempotency_key="k", body_digest="b") for _ in range(6)]
    assert len({post.result().id for post in posts}) == 1
    assert len(list_runs(database).items) == 1
