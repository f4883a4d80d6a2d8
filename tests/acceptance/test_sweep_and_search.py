"""A sweep and a search, each as one job over HTTP, on a simulated engine whose limit is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from sqlalchemy import select

from engines.simulated.start import SimulatedServer, simulated_engine
from services.domain.attainment import Attained
from services.domain.search import Probe, ProbeResult, Search, Verdict, next_step
from services.store.database import Database
from services.store.jobs import runs_of_job
from services.store.runs import get_run
from services.store.searches import searches_of_job
from services.store.tables import runs
from tests.fakes.service import Service, await_true, running_service
from tests.fakes.verdicts import assert_valid_here

OUTPUT_TOKENS = 16

WORKLOAD: dict[str, Any] = {
    "name": "short",
    "requests": 8,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 32}},
    "output_tokens": {"kind": "fixed", "tokens": OUTPUT_TOKENS},
    "warmup_batches": 0,
}
SEARCH: dict[str, Any] = {
    "axis": "rate_per_s",
    "low": 8,
    "high": 128,
    "slo": {"ttft_s": 0.1},
    "attainment": 0.8,
    "confidence": 0.8,
    "resolution": 0.5,
    "arrival": "constant",
    "least_s": 1.5,
}
#: Mean seconds from token to token with all slots taken, and what of it a busy machine makes that cannot keep 16/s.
PACE, SLOWED = 0.0123, 1.1
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
    job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD], search=SEARCH, calibration=False)
    job = service.await_job(job_id)
    (found,) = job["searches"]
    assert found["probes"] == len(job["runs"])
    if found["state"] == "inconclusive":
        assert STOPPED in found["words"], found
        return
    if found["state"] == "none_meets":
        assert pace_of(server) >= SLOWED * PACE, found
        return
    assert found["state"] == "found", found
    best, worst = found["highest_meeting"], found["lowest_failing"]
    # Four slots, each 16 tokens of eleven milliseconds: some twenty requests a second are what it can serve.
    assert 8 <= best < worst, found
    assert best <= 22.63, found
    if pace_of(server) < SLOWED * PACE:
        assert worst >= 16, found
    assert len(load_of(server)) >= sum(value["requests"] for value in found["values"])
    assert f"{best:g} requests/s" in found["words"]


def test_a_search_outlives_its_workers(database: Database, database_url: str, tmp_path: Path) -> None:
    """SIGKILL in the middle of a run and between result and database: no run of it is lost, and none is doubled."""
    settings = {"ENGINEBENCH_LEASE_S": "2"}
    state = tmp_path / "worker"
    with (
        simulated_engine("vllm-mistral-7b", max_running=4) as server,
        running_service(database_url, tmp_path / "api", "--api-only", settings=settings) as service,
        ExitStack() as last,
    ):
        workers = [start_worker(database_url, state, settings)]
        last.callback(lambda: stop(workers[-1]))
        job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD], search=SEARCH, calibration=False)
        for moment, every_s in (
            (lambda: len(load_of(server)) > 5, 0.05),
            (lambda: any(state.glob("results/*.jsonl")), 0.001),
        ):
            await_true(moment, 60, service.log_tail, every_s)
            workers[-1].kill()
            workers[-1].wait()
            workers.append(start_worker(database_url, state, settings))
        job = service.await_job(job_id)
    (found,) = searches_of_job(database, job_id)
    assert found.verdict is not None
    assert (found.runs, found.moving) == (len(job["runs"]), 0)
    results = history_of(database, job_id)
    search = Search.model_validate(job["spec"]["search"])
    for number, run in enumerate(job["runs"]):
        step = next_step(search, results[:number])
        assert isinstance(step, Probe)
        assert step.value == run["point"], "each run is the one that follows from those before it"
        kept = [attempt for attempt in get_run(database, run["id"]).attempts if attempt.ended == "result"]
        assert len(kept) == 1, run
    verdict = next_step(search, results)
    assert isinstance(verdict, Verdict)
    assert found.verdict == json.loads(json.dumps(verdict.to_json()))
    assert max(run.attempt for run in runs_of_job(database, job_id)) > 1


def pace_of(server: SimulatedServer) -> float:
    """Mean seconds from token to token by the engine's own account: a busy machine slows it, and what it can serve."""
    gaps_s = [(one["last_token_ns"] - one["first_token_ns"]) / (OUTPUT_TOKENS - 1) / 1e9 for one in load_of(server)]
    return fmean(gaps_s)


def load_of(server: SimulatedServer) -> list[dict[str, Any]]:
    """What runs asked of the engine; probes ask for other lengths."""
    return [request for request in server.truth() if request["max_tokens"] == OUTPUT_TOKENS]


def history_of(database: Database, job_id: str) -> list[ProbeResult]:
    """The ends of a job's runs as its only search reads them."""
    wanted = (runs.c.point, runs.c.attained, runs.c.validity)
    with database.read() as connection:
        rows = connection.execute(select(*wanted).where(runs.c.job_id == job_id).order_by(runs.c.position)).all()
    found = []
    for row in rows:
        said = row.attained
        attained = Attained(said["requests"], said["met"], said["effective"])
        found.append(ProbeResult(row.point, attained, row.validity == "VALID", tuple(said["codes"]), said["why"]))
    return found


def start_worker(database_url: str, state: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A worker alone, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEBENCH_")}
    environment |= {"ENGINEBENCH_DATABASE_URL": database_url, "ENGINEBENCH_STATE_DIR": str(state), **settings}
    environment |= {"ENGINEBENCH_WORKER_ID": "w1", "ENGINEBENCH_POLL_S": "0.1", "ENGINEBENCH_DRAIN_S": "0"}
    command = [sys.executable, "-m", "services.cli.main", "serve", "--worker-only", "--no-migrate"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait(30)
