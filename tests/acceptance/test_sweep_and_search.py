"""A sweep and a search, each as one job over HTTP, on a simulated engine whose limit is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.simulated.start import SimulatedServer, simulated_engine
from tests.fakes.service import Service, running_service
from tests.fakes.verdicts import assert_valid_here

WORKLOAD: dict[str, Any] = {
    "name": "short",
    "requests": 8,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 32}},
    "output_tokens": {"kind": "fixed", "tokens": 16},
    "warmup_batches": 0,
}
#: Runs that the machine itself kept from being VALID stop a search after so many at one value.
STOPPED = "the search stopped"


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", max_running=4) as running:
        yield running


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path / "state") as running:
        yield running


def target(server: SimulatedServer) -> dict[str, Any]:
    return {"name": "sim", "engine": "vllm", "model": server.model, "reach": {"kind": "attached", "url": server.url}}


def test_a_sweep_is_one_job_and_gives_the_curve(service: Service, server: SimulatedServer) -> None:
    sweep = {"axis": "concurrency", "values": [1, 4, 8], "waves": 10}
    job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD], sweep=sweep, calibration=False)
    job = service.await_job(job_id)
    assert job["status"] == "completed"
    for run in job["runs"]:
        assert_valid_here(run["validity"], run["reason_codes"])
    curve = service.client.get(f"/v1/jobs/{job_id}/curve").json()
    (series,) = curve["series"]
    assert series["simulated"] is True
    assert [point["value"] for point in series["points"]] == [1, 4, 8]
    counted = [point for point in series["points"] if point["valid"]]
    rates = [point["output_tokens_per_s"]["median"] for point in counted]
    waits = [point["ttft_p50_s"]["median"] for point in counted]
    # More in flight: more throughput up to the engine's four slots, then longer waits.
    assert rates == sorted(rates) or len(counted) < 3 or rates[2] > 0.8 * rates[1]
    assert waits == sorted(waits)
    ids = ",".join(run["id"] for run in job["runs"])
    compared = service.client.get("/v1/compare", params={"runs": ids, "axis": "concurrency"}).json()
    assert compared["comparable"] is (len(counted) > 1), compared


def test_rates_are_compared_along_their_axis(service: Service, server: SimulatedServer) -> None:
    sweep = {"axis": "rate_per_s", "low": 4, "high": 8, "steps": 2, "least_s": 2, "arrival": "constant"}
    job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD], sweep=sweep, calibration=False)
    job = service.await_job(job_id)
    for run in job["runs"]:
        assert_valid_here(run["validity"], run["reason_codes"])
    ids = ",".join(run["id"] for run in job["runs"])
    compared = service.client.get("/v1/compare", params={"runs": ids, "axis": "rate"}).json()
    assert compared["comparable"] or compared["left_out"], compared


def test_a_search_is_one_job_and_says_what_the_engine_takes(service: Service, server: SimulatedServer) -> None:
    search = {
        "axis": "rate_per_s",
        "low": 4,
        "high": 256,
        "slo": {"ttft_s": 0.1},
        "attainment": 0.8,
        "confidence": 0.8,
        "resolution": 0.5,
        "arrival": "constant",
        "least_s": 3,
    }
    job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD], search=search, calibration=False)
    job = service.await_job(job_id, timeout_s=240)
    (found,) = job["searches"]
    assert found["probes"] == len(job["runs"])
    if found["state"] == "inconclusive":
        assert STOPPED in found["words"], found
        return
    assert found["state"] == "found", found
    best, worst = found["highest_meeting"], found["lowest_failing"]
    assert best < worst
    # Four slots, each 16 tokens of a few ms: the decode steps alone bound what can be served.
    truth = [t for t in server.truth() if t["max_tokens"] == 16]
    assert len(truth) >= sum(value["requests"] for value in found["values"])
    assert 8 <= best <= 128, found
    assert f"{best:g} requests/s" in found["words"]
