"""The history over HTTP: filtered, sorted, paged; one run; its requests; comparisons."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.store.database import Database
from tests.fakes.history import add_runs, one_run, queue_job
from tests.fakes.results import make_result

TGI = {"engine": "tgi", "hardware": None, "flag_class": "matched"}


def ids(client: TestClient, query: str = "") -> list[str]:
    answer = client.get(f"/v1/runs{query}")
    assert answer.status_code == 200, answer.text
    return [run["id"] for run in answer.json()["items"]]


def test_every_filter_narrows(client: TestClient, database: Database) -> None:
    invalid = make_result(target=TGI, simulated=True)
    invalid["validity"]["state"] = "INVALID"
    vllm = add_runs(database, make_result(), names=["one"], labels={"team": "x", "k": "a=b"})[0]
    tgi = add_runs(database, invalid, names=["two"], labels={"team": "y"})[0]
    queued_job = queue_job(database, make_result(workload={"name": "later"}), names=["three"])
    (queued,) = ids(client, f"?job={queued_job}")
    assert ids(client) == [queued, tgi, vllm]
    for query, expected in {
        "engine=vllm": [queued, vllm],
        "engine=vllm&engine=tgi": [queued, tgi, vllm],
        "model=mistralai/Mistral-7B-Instruct-v0.2": [queued, tgi, vllm],
        "model=other": [],
        "workload=later": [queued],
        "target=one": [vllm],
        "hardware=A100-80GB": [queued, vllm],
        "flag_class=matched": [tgi],
        "flag_class=as-shipped": [queued, vllm],
        "status=completed": [tgi, vllm],
        "status=queued&status=running": [queued],
        "validity=INVALID": [tgi],
        "validity=VALID": [vllm],
        "label=team=x": [vllm],
        "label=team=x&label=k=a=b": [vllm],
        "label=team=x&label=team2=y": [],
        "simulated=true": [tgi],
        "simulated=false": [vllm],
        "since=2000-01-01T00:00:00Z": [queued, tgi, vllm],
        "since=2100-01-01T00:00:00Z": [],
        "until=2000-01-01T00:00:00Z": [],
        "since=2000-01-01": [queued, tgi, vllm],
        "since=2100-01-01": [],
        "until=2000-01-01": [],
    }.items():
        assert ids(client, f"?{query}") == expected, query


def test_pages_stay_stable_while_runs_are_added(client: TestClient, database: Database) -> None:
    first = add_runs(database, *(make_result(repeat=k) for k in range(5)))
    page = client.get("/v1/runs?limit=2").json()
    seen = [run["id"] for run in page["items"]]
    one_run(database)
    while page["next"]:
        page = client.get("/v1/runs", params={"limit": 2, "cursor": page["next"]}).json()
        seen += [run["id"] for run in page["items"]]
    assert sorted(seen) == sorted(first)


def test_sorting_puts_what_has_no_value_last(client: TestClient, database: Database) -> None:
    slow, fast = add_runs(database, make_result(took_ms=2000), make_result(took_ms=1000, repeat=1))
    queue_job(database, make_result())
    (queued,) = ids(client, "?status=queued")
    assert ids(client, "?sort=duration_s") == [fast, slow, queued]
    assert ids(client, "?sort=-duration_s") == [slow, fast, queued]


def test_one_run_has_its_spec_and_its_whole_result(client: TestClient, database: Database) -> None:
    run_id = one_run(database, seed=5)
    run = client.get(f"/v1/runs/{run_id}").json()
    assert run["spec"]["seed"] == 5
    assert run["result"]["schema_version"] == 1
    assert run["result"]["summary"]["ttft_s"]["p50"] == pytest.approx(0.1)
    assert run["metrics"]["duration_s"] == pytest.approx(1.0)
    assert (run["status"], run["validity"], run["records"]) == ("completed", "VALID", 2)
    assert [attempt["worker"] for attempt in run["attempts"]] == ["test-worker"]


def test_requests_come_as_json_and_as_csv(client: TestClient, database: Database) -> None:
    run_id = one_run(database)
    whole = client.get(f"/v1/runs/{run_id}/requests").json()
    assert whole["run_id"] == run_id
    assert [record["index"] for record in whole["items"]] == [0, 1]
    assert len(whole["items"][0]["event_ns"]) == 3
    for asked in (
        client.get(f"/v1/runs/{run_id}/requests?format=csv"),
        client.get(f"/v1/runs/{run_id}/requests", headers={"accept": "text/csv"}),
    ):
        assert asked.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(asked.text)))
        assert [row["index"] for row in rows] == ["0", "1"]
        assert float(rows[0]["ttft_s"]) == pytest.approx(0.1)
        assert (rows[0]["events"], rows[0]["failure_kind"]) == ("3", "")
    over = client.get(f"/v1/runs/{run_id}/requests?format=json", headers={"accept": "text/csv"})
    assert over.headers["content-type"] == "application/json"


def test_a_run_without_a_result_has_no_requests(client: TestClient, database: Database) -> None:
    queue_job(database, make_result())
    (run_id,) = ids(client)
    assert client.get(f"/v1/runs/{run_id}/requests").json()["items"] == []
    assert client.get(f"/v1/runs/{run_id}/requests?format=csv").text.count("\n") == 1
    assert client.get(f"/v1/runs/{run_id}").json()["result"] is None


def test_cancelling_one_run_leaves_its_siblings(client: TestClient, database: Database) -> None:
    queue_job(database, make_result(), make_result(repeat=1))
    second, first = ids(client)
    assert client.post(f"/v1/runs/{second}/cancel").json()["status"] == "cancelled"
    assert client.get(f"/v1/runs/{first}").json()["status"] == "queued"
    assert client.post("/v1/runs/none/cancel").status_code == 404


def compare(client: TestClient, *runs: str, **more: Any) -> Any:
    return client.get("/v1/compare", params={"runs": ",".join(runs), **more})


def test_two_engines_are_compared_and_two_workloads_are_not(client: TestClient, database: Database) -> None:
    vllm, tgi, other = add_runs(
        database,
        make_result(took_ms=1000),
        make_result(target={"engine": "tgi"}, version="3.3.7", took_ms=800),
        make_result(target={"engine": "tgi"}, version="3.3.7", workload={"temperature": 1.0}),
    )
    found = compare(client, vllm, tgi).json()
    assert (found["comparable"], found["axis"]) == (True, "engine")
    assert [side["value"] for side in found["sides"]] == ["vllm", "tgi"]
    assert found["sides"][1]["figures"]["duration_s"]["ratio"] == pytest.approx(0.8)
    refused = compare(client, vllm, other).json()
    assert refused["comparable"] is False
    assert [d["field"] for d in refused["differences"]] == ["workload.temperature"]


def test_what_cannot_be_compared_is_refused_with_its_field(client: TestClient, database: Database) -> None:
    run = one_run(database)
    queue_job(database, make_result())
    (queued,) = ids(client, "?status=queued")
    assert compare(client, run, "none").status_code == 404
    assert compare(client, run, queued).status_code == 409
    for answer, field in (
        (compare(client, run, run), "runs"),
        (compare(client, run), "runs"),
        (client.get("/v1/compare"), "runs"),
        (compare(client, run, queued, axis="colour"), "axis"),
    ):
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]
