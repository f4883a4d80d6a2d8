"""Sweeps and searches over HTTP: what is asked for, the curve, how a search stands, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.store.database import Database
from services.store.queue import claim
from services.store.results import finish
from tests.fakes.jobs import result as made
from tests.fakes.results import make_result

A = {"name": "a", "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://127.0.0.1:9"}}
TINY: dict[str, Any] = {
    "name": "tiny",
    "requests": 20,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 8}},
    "output_tokens": {"kind": "fixed", "tokens": 8},
}
SWEEP = {"targets": [A], "workloads": [TINY], "sweep": {"axis": "concurrency", "values": [2, 1]}, "repeats": 2}
SEARCH = {
    "targets": [A],
    "workloads": [TINY],
    "search": {"low": 1, "high": 4, "slo": {"ttft_s": 1}, "attainment": 0.9, "resolution": 1},
}


def post(client: TestClient, body: dict[str, Any]) -> str:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def carry_out(database: Database, result: dict[str, Any], records: list[dict[str, Any]] | None = None) -> float:
    claimed = claim(database, "w", 60.0)
    assert claimed is not None
    spec = claimed.run_spec.model_dump(mode="json")
    assert finish(database, claimed, result | {"spec": spec}, records or [])
    return float(claimed.run_spec.workload.requests)


def test_a_sweep_gives_its_curve(client: TestClient, database: Database) -> None:
    job_id = post(client, SWEEP)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert [(cell["workload"], cell["series"], cell["point"]) for cell in job["cells"]] == [
        ("tiny@concurrency=2", "tiny", 2),
        ("tiny@concurrency=1", "tiny", 1),
    ]
    empty = client.get(f"/v1/jobs/{job_id}/curve").json()
    assert [point["output_tokens_per_s"] for point in empty["series"][0]["points"]] == [None, None]
    refused = make_result(simulated=True)
    reason = {"code": "client_cpu", "severity": "invalid", "message": "the load process was busy"}
    note = {"code": "resends", "severity": "note", "message": "not worth a word"}
    refused["validity"] = {"state": "INVALID", "reasons": [reason, note]}
    for found in (make_result(simulated=True, took_ms=1000), refused, make_result(simulated=True), make_result()):
        carry_out(database, found)
    curve = client.get(f"/v1/jobs/{job_id}/curve").json()
    assert curve["axis"] == "concurrency"
    (series,) = curve["series"]
    assert (series["target"], series["workload"], series["simulated"]) == ("a", "tiny", True)
    one, two = series["points"]
    assert (one["value"], two["value"]) == (1, 2)
    assert (two["runs"], two["valid"], two["left_out"]) == (2, 2, [])
    assert two["output_tokens_per_s"]["n"] == 2
    (left_out,) = one["left_out"]
    assert (left_out["state"], left_out["codes"], left_out["why"]) == (
        "INVALID",
        ["client_cpu"],
        "the load process was busy",
    )
    assert (one["valid"], one["output_tokens_per_s"]["n"], one["ttft_p50_s"]["median"]) == (1, 1, pytest.approx(0.1))
    assert one["p99_supported"] is False


def test_a_run_without_a_result_is_left_out_in_words(client: TestClient, database: Database) -> None:
    job_id = post(client, SWEEP | {"repeats": 1})
    failed = {"state": "INVALID", "reasons": []}
    carry_out(database, made("failed", error="the target did not answer", summary={}, validity=failed))
    client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    points = client.get(f"/v1/jobs/{job_id}/curve").json()["series"][0]["points"]
    assert [point["left_out"][0]["state"] for point in points] == ["cancelled", "INVALID"]
    assert points[1]["left_out"][0]["why"] == "the target did not answer"


def test_a_search_is_followed_to_its_verdict(client: TestClient, database: Database) -> None:
    job_id = post(client, SEARCH)
    (search,) = client.get(f"/v1/jobs/{job_id}").json()["searches"]
    assert (search["state"], search["probes"], search["values"]) == ("searching", 1, [])
    row = {"failure_kind": None, "send_lag_s": 0.0, "tpot_s": 0.1, "e2e_s": 2.0, "engine_output_tokens": 8}
    for ttft_s in (0.1, 0.1, 2.0):
        good = {"state": "VALID", "reasons": []}
        records = [row | {"ttft_s": ttft_s, "scheduled_ns": k * 10**9} for k in range(200)]
        carry_out(database, made(validity=good), records)
    job = client.get(f"/v1/jobs/{job_id}").json()
    (search,) = job["searches"]
    assert (search["state"], search["highest_meeting"], search["lowest_failing"]) == ("found", 2, 4)
    assert [(value["value"], value["said"]) for value in search["values"]] == [(1, "meets"), (2, "meets"), (4, "fails")]
    assert all(0 <= v["attainment_low"] <= v["met"] / v["requests"] <= v["attainment_high"] for v in search["values"])
    assert (search["target"], search["workload"], search["axis"]) == ("a", "tiny", "rate_per_s")
    assert job["status"] == "completed"
    points = client.get(f"/v1/jobs/{job_id}/curve").json()["series"][0]["points"]
    assert [point["value"] for point in points] == [1, 2, 4]
    assert client.get("/metrics").text.count('target="a"') == 0


def test_a_cancelled_search_is_stopped(client: TestClient) -> None:
    job_id = post(client, SEARCH)
    client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    (search,) = client.get(f"/v1/jobs/{job_id}").json()["searches"]
    assert search["state"] == "stopped"


def test_a_job_without_an_axis_has_no_curve(client: TestClient) -> None:
    job_id = post(client, {"targets": [A], "workloads": [TINY]})
    answer = client.get(f"/v1/jobs/{job_id}/curve")
    assert answer.status_code == 404
    assert "sweep" in answer.json()["errors"][0]["mend"]
    assert client.get(f"/v1/jobs/{job_id}").json()["searches"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sweep": {"axis": "speed", "values": [1]}}, "sweep.axis"),
        ({"sweep": {"axis": "concurrency", "values": []}}, "sweep.values"),
        ({"sweep": {"axis": "concurrency", "values": [1.5]}}, "sweep"),
        ({"search": SEARCH["search"], "sweep": SWEEP["sweep"]}, ""),
        ({"search": SEARCH["search"], "repeats": 2}, ""),
        ({"search": SEARCH["search"], "slo": {"ttft_s": 1}}, ""),
        ({"search": {**SEARCH["search"], "low": 0.01}}, "search.low"),  # type: ignore[dict-item]
        ({"search": {**SEARCH["search"], "slo": {}}}, "search.slo"),  # type: ignore[dict-item]
        ({"search": SEARCH["search"], "workloads": [TINY | {"lengths": "length-matched"}]}, "workloads.0.lengths"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_its_field(
    shared_client: TestClient, change: dict[str, Any], field: str
) -> None:
    answer = shared_client.post("/v1/jobs", json={"targets": [A], "workloads": [TINY]} | change)
    assert answer.status_code == 422, answer.text
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
