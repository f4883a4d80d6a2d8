"""Jobs over HTTP: accepted, shown, followed, cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.store.database import Database
from tests.fakes.history import add_runs, queue_job, take
from tests.fakes.results import make_result

A = {
    "name": "a",
    "engine": "vllm",
    "model": "mistral",
    "reach": {"kind": "attached", "url": "http://127.0.0.1:9"},
}
JOB: dict[str, Any] = {"targets": [A], "workloads": ["burst-100x128x128"], "repeats": 2, "labels": {"team": "x"}}


def post(client: TestClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    return job


def test_a_job_becomes_runs_in_its_order(client: TestClient) -> None:
    client.post("/v1/targets", json=A | {"name": "stored"}).raise_for_status()
    arm = {"like": "stored", "name": "matched", "flag_class": "matched", "flags": ["--max-num-seqs=128"]}
    job = post(client, JOB | {"targets": [A, "stored", arm], "order": "abba", "priority": 3, "name": "three arms"})
    assert (job["status"], job["counts"], job["priority"]) == ("queued", {"queued": 6}, 3)
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert [run["target"] for run in shown["runs"]] == ["a", "stored", "matched", "matched", "stored", "a"]
    assert [run["repeat"] for run in shown["runs"]] == [0, 0, 0, 1, 1, 1]
    run = client.get(f"/v1/runs/{shown['runs'][2]['id']}").json()
    assert run["spec"]["target"]["flags"] == ["--max-num-seqs=128"]
    assert run["spec"]["target"]["flag_class"] == "matched"
    assert run["resources"] == ["server:127.0.0.1:9"]
    assert {cell["target"]: cell["repeats"] for cell in shown["cells"]} == {"a": 2, "stored": 2, "matched": 2}


def test_a_seed_is_drawn_where_none_is_given_and_kept_where_one_is(client: TestClient) -> None:
    def seeds(body: dict[str, Any]) -> set[int]:
        runs = client.get(f"/v1/jobs/{post(client, body)['id']}").json()["runs"]
        return {client.get(f"/v1/runs/{run['id']}").json()["spec"]["seed"] for run in runs}

    first, second = seeds(JOB), seeds(JOB)
    assert len(first) == len(second) == 1
    assert first != second
    assert seeds(JOB | {"seed": 7}) == {7}


def test_the_same_key_gives_the_same_job_and_another_body_is_refused(client: TestClient) -> None:
    first = post(client, JOB, **{"Idempotency-Key": "once"})
    again = post(client, dict(reversed(JOB.items())), **{"Idempotency-Key": "once"})
    assert again["id"] == first["id"]
    other = client.post("/v1/jobs", json=JOB | {"repeats": 3}, headers={"Idempotency-Key": "once"})
    assert other.status_code == 409
    assert "once" in other.json()["detail"]
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_job_asked_for_again_is_there_though_its_target_is_gone(client: TestClient) -> None:
    client.post("/v1/targets", json=A).raise_for_status()
    first = post(client, JOB | {"targets": ["a"]}, **{"Idempotency-Key": "once"})
    client.delete("/v1/targets/a").raise_for_status()
    assert post(client, JOB | {"targets": ["a"]}, **{"Idempotency-Key": "once"})["id"] == first["id"]
    assert client.post("/v1/jobs", json=JOB | {"targets": ["a"]}).status_code == 422


def test_jobs_are_listed_newest_first_by_page_status_and_label(client: TestClient) -> None:
    ids = [post(client, JOB | {"labels": {"n": str(n)}})["id"] for n in range(3)]
    client.post(f"/v1/jobs/{ids[0]}/cancel").raise_for_status()
    page = client.get("/v1/jobs?limit=2").json()
    rest = client.get("/v1/jobs", params={"limit": 2, "cursor": page["next"]}).json()
    assert [job["id"] for job in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    assert [job["id"] for job in client.get("/v1/jobs?label=n=1").json()["items"]] == [ids[1]]
    assert [job["id"] for job in client.get("/v1/jobs?status=cancelled").json()["items"]] == [ids[0]]


def test_cells_give_median_and_spread_over_valid_repeats(client: TestClient, database: Database) -> None:
    results = [make_result(took_ms=ms, repeat=k) for k, ms in enumerate((1000, 1200, 1100))]
    results[1]["validity"]["state"] = "INVALID"
    run_id = add_runs(database, *results)[0]
    job = client.get(f"/v1/jobs/{client.get(f'/v1/runs/{run_id}').json()['job_id']}").json()
    assert job["status"] == "completed"
    (cell,) = job["cells"]
    assert (cell["repeats"], cell["ended"], cell["valid"]) == (3, 3, 2)
    assert (cell["rankable"], cell["basis"], cell["simulated"]) == (False, "valid", False)
    assert cell["metrics"]["duration_s"]["n"] == 2
    assert cell["metrics"]["duration_s"]["median"] == pytest.approx(1.05)
    assert (cell["metrics"]["duration_s"]["min"], cell["metrics"]["duration_s"]["max"]) == pytest.approx((1.0, 1.1))
    assert cell["figures"]["ttft_s.p50"]["median"] == pytest.approx(0.105)


def test_where_no_repeat_is_valid_the_cell_says_so(client: TestClient, database: Database) -> None:
    result = make_result()
    result["validity"]["state"] = "INCONCLUSIVE"
    run_id = add_runs(database, result)[0]
    job = client.get(f"/v1/jobs/{client.get(f'/v1/runs/{run_id}').json()['job_id']}").json()
    assert (job["cells"][0]["basis"], job["cells"][0]["valid"]) == ("not valid", 0)
    assert job["cells"][0]["metrics"]["duration_s"]["n"] == 1


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_events_end_when_the_job_has(client: TestClient, database: Database) -> None:
    run_id = add_runs(database, make_result())[0]
    job_id = client.get(f"/v1/runs/{run_id}").json()["job_id"]
    answer = client.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [name for name, _ in events] == ["job", "end"]
    assert events[-1][1]["counts"] == {"completed": 1}


def test_events_show_what_runs(client: TestClient, database: Database) -> None:
    job_id = queue_job(database, make_result(), make_result(target={"engine": "tgi"}))
    claimed = take(database)
    ((name, data),) = events_of(client.get(f"/v1/jobs/{job_id}/events?follow=false").text)
    assert (name, data["status"]) == ("job", "running")
    assert [run["run_id"] for run in data["running"]] == [claimed.run_id]


def test_cancel_ends_what_waits_and_asks_what_runs(client: TestClient, database: Database) -> None:
    job_id = queue_job(database, make_result(), make_result(target={"engine": "tgi"}))
    claimed = take(database)
    job = client.post(f"/v1/jobs/{job_id}/cancel").json()
    assert job["counts"] == {"running": 1, "cancelled": 1}
    assert job["cancel_requested_at"] is not None
    assert client.get(f"/v1/runs/{claimed.run_id}").json()["cancel_requested"] is True
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200


def test_length_matched_waits_for_the_engine_that_may_stop_early(client: TestClient) -> None:
    workload = {
        "name": "matched",
        "requests": 2,
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 8}},
        "output_tokens": {"kind": "fixed", "tokens": 8},
        "lengths": "length-matched",
    }
    tgi = {**A, "name": "t", "engine": "tgi", "reach": {"kind": "attached", "url": "http://127.0.0.1:10"}}
    job = post(client, {"targets": [A, tgi], "workloads": [workload], "seed": 1})
    first, second = (
        client.get(f"/v1/runs/{r['id']}").json() for r in client.get(f"/v1/jobs/{job['id']}").json()["runs"]
    )
    assert (first["target"], first["lengths_from"]) == ("a", second["id"])
    assert second["lengths_from"] is None


@pytest.mark.parametrize("path", ["/v1/jobs/none", "/v1/jobs/none/events"])
def test_an_unknown_job_is_404(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "none" in answer.json()["detail"]
    assert client.post("/v1/jobs/none/cancel").status_code == 404
