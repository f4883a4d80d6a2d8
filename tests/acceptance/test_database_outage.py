"""SIGKILL of Postgres under the whole service: what was measured is kept, the API says so, and all of it goes on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engines.clock import sleep_s
from engines.simulated.start import SimulatedServer, simulated_engine
from services.store.database import close, open_database
from services.store.rows import RunStatus
from services.store.runs import get_records, get_run
from tests.fakes.postgres import mortal_postgres
from tests.fakes.service import Service, await_true, running_service

PATIENCE_S = 60.0
SEED = 4
#: Asked of the engine by runs only.
OUTPUT_TOKENS = 61
#: Some seven seconds of load.
WORKLOAD: dict[str, Any] = {
    "name": "small",
    "requests": 20,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 24}},
    "output_tokens": {"kind": "fixed", "tokens": OUTPUT_TOKENS},
    "arrival": {"kind": "closed_loop", "concurrency": 2},
    "warmup_batches": 0,
}


def target(server: SimulatedServer) -> dict[str, Any]:
    return {"name": "sim", "engine": "vllm", "model": server.model, "reach": {"kind": "attached", "url": server.url}}


def load_of(server: SimulatedServer) -> list[dict[str, Any]]:
    return [request for request in server.truth() if request["max_tokens"] == OUTPUT_TOKENS]


def answers_again(service: Service, path: str) -> Callable[[], bool]:
    return lambda: service.client.get(path).status_code == 200


def test_a_result_that_is_measured_while_postgres_is_dead_is_kept(tmp_path: Path) -> None:
    with mortal_postgres() as postgres, simulated_engine("vllm-mistral-7b") as server:
        url = postgres.server.create_database()
        with running_service(url, tmp_path / "state") as service:
            body = {"targets": [target(server)], "workloads": [WORKLOAD], "calibration": False}
            job_id = service.submit(**body, repeats=2)
            await_true(lambda: len(load_of(server)) > 4, PATIENCE_S, service.log_tail)
            postgres.kill()
            assert_says_that_the_database_is_away(service, job_id, body)
            await_true(lambda: any((tmp_path / "state/results").glob("*.jsonl")), PATIENCE_S, service.log_tail)
            assert_says_that_the_database_is_away(service, job_id, body)
            sent = len(load_of(server))
            postgres.start()
            await_true(answers_again(service, f"/v1/jobs/{job_id}"), PATIENCE_S, service.log_tail)
            job = service.await_job(job_id)
            assert service.client.get("/readyz").status_code == 200
            assert "enginebench_store_up 1.0" in service.client.get("/metrics").text
        assert sent == WORKLOAD["requests"], "the load went on without the database, and nothing was begun"
        assert len(load_of(server)) == 2 * WORKLOAD["requests"], "nothing was sent twice"
        assert [run["status"] for run in job["runs"]] == ["completed"] * 2
        database = open_database(url)
        for run in job["runs"]:
            assert [attempt.ended for attempt in get_run(database, run["id"]).attempts] == ["result"]
            assert len(list(get_records(database, run["id"]))) == WORKLOAD["requests"]
        close(database)


def assert_says_that_the_database_is_away(service: Service, job_id: str, body: dict[str, Any]) -> None:
    refused = [
        service.client.get(f"/v1/jobs/{job_id}"),
        service.client.get(f"/v1/jobs/{job_id}/events"),
        service.client.get("/v1/runs"),
        service.client.post("/v1/jobs", json=body),
        service.client.post(f"/v1/jobs/{job_id}/cancel"),
        service.client.get("/readyz"),
    ]
    assert [answer.status_code for answer in refused] == [503] * len(refused), [answer.text for answer in refused]
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert all("does not answer" in answer.text for answer in refused)
    assert service.client.get("/healthz").status_code == 200
    assert "enginebench_store_up 0.0" in service.client.get("/metrics").text


def test_a_postgres_that_hangs_is_told_in_time_and_loses_no_run(tmp_path: Path) -> None:
    with mortal_postgres() as postgres, simulated_engine("vllm-mistral-7b") as server:
        url = postgres.server.create_database()
        settings = {"ENGINEBENCH_DATABASE_TIMEOUT_S": "3"}
        with running_service(url, tmp_path / "state", settings=settings) as service:
            job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD], calibration=False)
            await_true(lambda: len(load_of(server)) > 2, PATIENCE_S, service.log_tail)
            postgres.freeze()
            sent = len(load_of(server))
            paths = (f"/v1/jobs/{job_id}", "/v1/runs", "/readyz")
            with ThreadPoolExecutor(len(paths)) as clients:
                # Each within the client's own patience of 30 s; without a limit they would never come.
                refused = list(clients.map(service.client.get, paths))
            assert [answer.status_code for answer in refused] == [503] * len(paths), [each.text for each in refused]
            assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
            assert service.client.get("/healthz").status_code == 200
            await_true(lambda: len(load_of(server)) > sent, PATIENCE_S, service.log_tail)
            postgres.thaw()
            await_true(answers_again(service, "/readyz"), PATIENCE_S, service.log_tail)
            job = service.await_job(job_id)
        assert [run["status"] for run in job["runs"]] == ["completed"]
        assert len(load_of(server)) == WORKLOAD["requests"], "nothing was sent twice"
        database = open_database(url)
        assert [attempt.ended for attempt in get_run(database, job["runs"][0]["id"]).attempts] == ["result"]
        close(database)


@pytest.mark.slow
def test_postgres_killed_at_any_moment_loses_no_run_and_doubles_none(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    short = WORKLOAD | {"requests": 4}
    with mortal_postgres() as postgres, simulated_engine("vllm-mistral-7b") as server:
        url = postgres.server.create_database()
        settings = {"ENGINEBENCH_LEASE_S": "3"}
        with running_service(url, tmp_path / "state", settings=settings) as service:
            job_id = service.submit(targets=[target(server)], workloads=[short], repeats=6, calibration=False)
            for _ in range(5):
                sleep_s(chance.uniform(0.2, 2.5))
                postgres.kill()
                sleep_s(chance.uniform(0, 1))
                postgres.start()
                await_true(answers_again(service, "/readyz"), PATIENCE_S, service.log_tail)
            job = service.await_job(job_id)
        database = open_database(url)
        for run in job["runs"]:
            detail = get_run(database, run["id"])
            assert detail.run.status is RunStatus.COMPLETED
            kept = [attempt for attempt in detail.attempts if attempt.ended == "result"]
            assert len(kept) == 1, detail.attempts
            sent = Counter(record["local_port"] for record in get_records(database, run["id"]))
            assert sum(sent.values()) == short["requests"]
        close(database)


def test_a_listener_is_told_to_come_back(tmp_path: Path) -> None:
    """The stream of a job's progress breaks off, as when the service ends; it does not say that the job has."""
    with mortal_postgres() as postgres, simulated_engine("vllm-mistral-7b") as server:
        url = postgres.server.create_database()
        with running_service(url, tmp_path / "state", "--api-only") as service:
            job_id = service.submit(targets=[target(server)], workloads=[WORKLOAD])
            with service.client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
                lines = events.iter_lines()
                assert next(lines) == "id: 1"
                postgres.kill()
                assert not any(line == "event: end" for line in lines)
            postgres.start()
            await_true(answers_again(service, f"/v1/jobs/{job_id}"), PATIENCE_S, service.log_tail)
            again = service.client.get(f"/v1/jobs/{job_id}/events", params={"follow": False})
            assert '"status":"queued"' in again.text
