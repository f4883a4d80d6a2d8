"""A run that a person leaves out of rankings stays in the history and counts nowhere else until it is taken in."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from services.store.database import Database
from tests.fakes.history import add_runs, one_run, queue_job
from tests.fakes.results import make_result

NOTE = "somebody else used the card meanwhile"


def leave_out(client: TestClient, run_id: str, note: str = NOTE) -> dict[str, Any]:
    answer = client.patch(f"/v1/runs/{run_id}", json={"excluded_note": note})
    return dict(answer.raise_for_status().json())


def take_in(client: TestClient, run_id: str) -> dict[str, Any]:
    return dict(client.patch(f"/v1/runs/{run_id}", json={"excluded_note": None}).raise_for_status().json())


def durations(client: TestClient) -> list[float]:
    """What /metrics shows of execution times."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return [s.value for f in families if f.name == "enginebench_run_duration_seconds" for s in f.samples]


def test_it_stays_in_the_history_with_its_note(client: TestClient, database: Database) -> None:
    run_id, other = add_runs(database, make_result(), make_result(repeat=1))
    changed = leave_out(client, run_id)
    assert (changed["excluded_note"], changed["validity"]) == (NOTE, "VALID")
    assert leave_out(client, run_id, "another reason")["excluded_at"] == changed["excluded_at"]
    shown = client.get(f"/v1/runs/{run_id}").json()
    assert (shown["excluded_note"], shown["result"]["validity"]["state"]) == ("another reason", "VALID")
    for excluded, expected in ((True, [run_id]), (False, [other])):
        items = client.get("/v1/runs", params={"excluded": excluded}).json()["items"]
        assert [run["id"] for run in items] == expected
    back = take_in(client, run_id)
    assert (back["excluded_at"], back["excluded_note"]) == (None, None)
    assert take_in(client, run_id) == back


def test_metrics_show_the_newest_that_counts(client: TestClient, database: Database) -> None:
    first = one_run(database, took_ms=1000)
    second = one_run(database, took_ms=2000, repeat=1)
    assert durations(client) == [2.0]
    leave_out(client, second)
    assert durations(client) == [1.0]
    leave_out(client, first)
    assert durations(client) == []
    take_in(client, first)
    assert durations(client) == [1.0]
    take_in(client, second)
    assert durations(client) == [2.0]
    leave_out(client, first)
    assert durations(client) == [2.0]


def test_a_jobs_summary_is_of_the_runs_that_count(client: TestClient, database: Database) -> None:
    good, bad = make_result(took_ms=1000), make_result(took_ms=9000, repeat=1)
    run_id, spoilt = add_runs(database, good, bad, names=["a", "a"])
    job_id = client.get(f"/v1/runs/{run_id}").json()["job_id"]
    leave_out(client, spoilt)
    (cell,) = client.get(f"/v1/jobs/{job_id}").json()["cells"]
    assert (cell["repeats"], cell["valid"], cell["excluded"], cell["rankable"]) == (2, 1, 1, True)
    assert cell["metrics"]["duration_s"]["median"] == 1.0
    assert cell["figures"]["duration_s"]["n"] == 1
    leave_out(client, run_id)
    (cell,) = client.get(f"/v1/jobs/{job_id}").json()["cells"]
    assert (cell["valid"], cell["excluded"], cell["rankable"], cell["basis"]) == (0, 2, False, "not valid")
    assert (cell["metrics"], cell["figures"]) == ({}, {})


def test_it_is_left_out_of_comparisons_by_name(client: TestClient, database: Database) -> None:
    ids = add_runs(database, make_result(), make_result(target={"engine": "tgi"}), make_result(repeat=1))
    leave_out(client, ids[2])
    compared = client.get("/v1/compare", params={"runs": ",".join(ids), "axis": "engine"}).json()
    assert compared["left_out"] == [{"run": ids[2], "state": "EXCLUDED", "reasons": ["excluded"]}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "excluded_note"),
        ({"excluded_note": ""}, "excluded_note"),
        ({"excluded_note": "a\x00b"}, "excluded_note"),
        ({"excluded_note": True}, "excluded_note"),
        ({"excluded_note": "why", "more": 1}, "more"),
    ],
)
def test_a_change_that_says_too_little_or_too_much_is_refused(
    shared_client: TestClient, body: dict[str, Any], field: str
) -> None:
    answer = shared_client.patch("/v1/runs/some-run", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


def test_only_a_run_that_has_ended_is_left_out(client: TestClient, database: Database) -> None:
    job_id = queue_job(database, make_result())
    (run,) = client.get(f"/v1/jobs/{job_id}").json()["runs"]
    answer = client.patch(f"/v1/runs/{run['id']}", json={"excluded_note": NOTE})
    assert (answer.status_code, "queued" in answer.json()["detail"]) == (409, True)
    assert client.patch("/v1/runs/none", json={"excluded_note": None}).status_code == 404
