"""The mission, end to end: a job over HTTP on four simulated engines, seen again in REST and in /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines.simulated.start import SimulatedServer, simulated_engine
from tests.fakes.service import Service, await_true, running_service
from tests.fakes.verdicts import assert_valid_here

PROFILES = ("vllm-qwen2.5-7b", "vllm-mistral-7b", "tgi-qwen2.5-7b", "tgi-mistral-7b")
REPEATS = 2


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, SimulatedServer]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(simulated_engine(name, speed=4)) for name in PROFILES}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(database_url, tmp_path / "state") as running:
        yield running


def target(name: str, server: SimulatedServer) -> dict[str, Any]:
    return {
        "name": name,
        "engine": name.partition("-")[0],
        "model": server.model,
        "reach": {"kind": "attached", "url": server.url},
        "hardware": "A100-80GB",
        "precision": "BF16",
        "resources": ["gpu:0"],
    }


def test_the_mission(service: Service, servers: dict[str, SimulatedServer]) -> None:
    client = service.client
    seen = {name: len(server.truth()) for name, server in servers.items()}
    for name, server in servers.items():
        assert client.post("/v1/targets", json=target(name, server)).status_code == 201
    job_id = service.submit(
        name="mission", targets=list(PROFILES), workloads=["burst-100x128x128"], repeats=REPEATS, labels={"a": "b"}
    )
    job = service.await_job(job_id)
    assert job["status"] == "completed"
    assert job["counts"] == {"completed": len(PROFILES) * REPEATS}

    # The history: each run with the figures of the engine's own truth log.
    runs = client.get("/v1/runs", params={"job": job_id, "limit": 100}).json()["items"]
    assert len(runs) == len(PROFILES) * REPEATS
    for name, server in servers.items():
        own = [run for run in runs if run["target"] == name]
        truths = [t for t in server.truth(since=seen[name]) if t["max_tokens"] == 128]
        assert len(own) == REPEATS
        assert len(truths) == 100 * REPEATS
        assert sum(run["metrics"]["total_output_tokens"] for run in own) == sum(t["generated_tokens"] for t in truths)
        assert sum(run["metrics"]["total_input_tokens"] for run in own) == sum(t["prompt_tokens"] for t in truths)
        for run in own:
            assert run["simulated"] is True
            assert_valid_here(run["validity"], run["reason_codes"])
            assert run["metrics"]["total_input_tokens"] == 12_800
            assert run["metrics"]["successes"] == 100
            assert run["failures"] == {}
    check_detail(service, runs[0]["id"])
    check_cells(job)
    check_exposition(client.get("/metrics").text)


def check_detail(service: Service, run_id: str) -> None:
    detail = service.client.get(f"/v1/runs/{run_id}").json()
    result = detail["result"]
    assert result["schema_version"] == 1
    assert result["environment"]["simulated"] is True
    assert result["summary"]["ttft_s"]["n"] == 100
    # A burst is one sample: its own percentiles claim nothing.
    assert not any(result["summary"]["ttft_s"]["supported"].values())
    rows = service.client.get(f"/v1/runs/{run_id}/requests").json()["items"]
    assert len(rows) == 100
    table = service.client.get(f"/v1/runs/{run_id}/requests", params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 101


def check_cells(job: dict[str, Any]) -> None:
    assert [cell["target"] for cell in job["cells"]] == list(PROFILES)
    for cell in job["cells"]:
        assert cell["repeats"] == cell["ended"] == REPEATS
        speed = cell["metrics"]["output_tokens_per_s"]
        # Over the VALID repeats; where a busy machine left none, over all.
        assert speed["n"] == (cell["valid"] or REPEATS)
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]


def check_exposition(text: str) -> None:
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    speeds = [s for s in samples if s.name == "enginebench_output_tokens_per_second"]
    valid = {
        s.labels["target"]
        for s in samples
        if s.name == "enginebench_run_validity" and s.labels["state"] == "VALID" and s.value == 1
    }
    # Ranking figures are of VALID runs, and of no others.
    assert {s.labels["target"] for s in speeds} == valid <= set(PROFILES)
    assert all(s.value > 0 and s.labels["simulated"] == "true" for s in speeds)


def test_a_job_survives_a_restart_of_the_service(
    database_url: str, tmp_path: Path, servers: dict[str, SimulatedServer]
) -> None:
    name = "vllm-qwen2.5-7b"
    with running_service(database_url, tmp_path / "state", "--api-only") as api:
        job_id = api.submit(targets=[target(name, servers[name])], workloads=["burst-100x128x128"])
        assert api.client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"
    with running_service(database_url, tmp_path / "state") as whole:
        assert whole.await_job(job_id)["status"] == "completed"
        before = whole.client.get("/metrics").text
    with running_service(database_url, tmp_path / "state", "--api-only") as again:
        # Shown of every run, VALID or not.
        figure = 'enginebench_run_requests{engine="vllm"'
        line = next(line for line in before.splitlines() if line.startswith(figure))
        assert line in again.client.get("/metrics").text.splitlines()


def test_cancel_a_queued_and_a_running_run(service: Service, servers: dict[str, SimulatedServer]) -> None:
    name = "vllm-mistral-7b"
    long = {
        "name": "long",
        "requests": 64,
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 64}},
        "output_tokens": {"kind": "fixed", "tokens": 2000},
        "arrival": {"kind": "closed_loop", "concurrency": 8},
        "warmup_batches": 0,
    }
    job_id = service.submit(targets=[target(name, servers[name])], workloads=[long], repeats=2)

    def is_measuring() -> bool:
        runs = service.client.get(f"/v1/jobs/{job_id}").json()["runs"]
        return any((run["progress"] or {}).get("sent") for run in runs)

    await_true(is_measuring, 60.0, service.log_tail)
    assert service.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    job = service.await_job(job_id)
    assert job["status"] == "cancelled"
    assert job["counts"] == {"cancelled": 2}
    runs = service.client.get("/v1/runs", params={"job": job_id}).json()["items"]
    stopped = next(run for run in runs if run["started_at"] is not None)
    # What was measured until then is kept, and marked.
    assert stopped["validity"] == "INVALID"
    assert "cancelled" in stopped["reason_codes"]
    assert service.client.get(f"/v1/runs/{stopped['id']}/requests").json()["items"]
