"""Everything that a real service writes is one JSON object a line, and what is about a run names its job too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.simulated.start import simulated_engine
from tests.fakes.service import free_port, running_service

KEY = "key-of-a-person"
SECRET = "s3cret-of-an-engine"
WORKLOAD = {
    "name": "tiny",
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
    "output_tokens": {"kind": "fixed", "tokens": 8},
    "requests": 4,
    "arrival": {"kind": "burst"},
}


def lines_of(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
        told = json.loads(line)
        assert isinstance(told, dict), line
        assert {"at", "level", "logger", "event"} <= told.keys(), line
        assert told["level"] in ("debug", "info", "warning", "error", "critical"), line
        if "run_id" in told:
            assert str(told["run_id"]).rpartition("-")[0] == told.get("job_id"), line
        found.append(told)
    return found


def target(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": url}}


@pytest.mark.parametrize("level", ["info", "debug"])
def test_api_and_worker_on_a_job_and_every_line(level: str, tmp_path: Path, database_url: str) -> None:
    settings = {
        "ENGINEBENCH_LOG_LEVEL": level,
        "ENGINEBENCH_API_KEYS": KEY,
        "ENGINEBENCH_SECRETS": '{"ENGINE_KEY": "http://127.0.0.1:9"}',
        "ENGINE_KEY": SECRET,
    }
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        simulated_engine("vllm-qwen2.5-7b", speed=8) as server,
        running_service(database_url, tmp_path / "state", settings=settings, headers=headers) as service,
    ):
        well = target("well", server.url) | {"model": server.model}
        gone = target("gone", f"http://127.0.0.1:{free_port()}")
        keyed = target("keyed", "http://127.0.0.1:9")
        keyed["reach"]["api_key_env"] = "ENGINE_KEY"
        job_id = service.submit(targets=[well, gone, keyed], workloads=[WORKLOAD])
        job = service.await_job(job_id)
        assert job["counts"] == {"completed": 1, "failed": 2}
        assert service.client.get("/v1/runs/none-00001").status_code == 404
        assert service.client.get("/v1/runs", params={"limit": "many"}).status_code == 422
    text = service.log.read_text()
    lines = lines_of(text)
    events = {line["event"] for line in lines}
    assert {"api listening", "worker started", "job accepted", "run started", "run ended", "worker ended"} <= events
    (accepted,) = [line for line in lines if line["event"] == "job accepted"]
    assert (accepted["job_id"], accepted["method"], accepted["path"]) == (job_id, "POST", "/v1/jobs")
    runs = {f"{job_id}-{number:05d}" for number in range(3)}
    for event in ("run started", "run ended"):
        own = [line for line in lines if line["event"] == event]
        assert {line["run_id"] for line in own} == runs
        assert {line["engine"] for line in own} == {"vllm"}
    # Between its start and its end everything the worker says is about the run.
    worker = [line for line in lines if line["logger"].startswith(("services.worker", "bench_runner", "engines"))]
    current = None
    for line in worker:
        if line["event"] == "run started":
            current = line["run_id"]
        if current is not None and line["event"] != "no sign of life":
            assert line["run_id"] == current, line
        if line["event"] == "run ended":
            current = None
    for secret in (KEY, SECRET):
        assert secret not in text


def test_a_fault_of_ours_is_one_line_with_its_traceback(tmp_path: Path) -> None:
    """The result cannot be put on disk: a file stands where its folder should be."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "results").write_text("not a folder")
    url = f"sqlite:///{tmp_path}/x.sqlite"
    with running_service(url, state) as service:
        job_id = service.submit(targets=[target("gone", f"http://127.0.0.1:{free_port()}")], workloads=[WORKLOAD])
        service.await_job(job_id)
    lines = lines_of(service.log.read_text())
    (told,) = [line for line in lines if line["event"] == "result not spooled"]
    assert (told["job_id"], told["run_id"], told["level"]) == (job_id, f"{job_id}-00000", "error")


@pytest.mark.parametrize("command", [["migrate"], ["serve"], ["serve", "--api-only"], ["serve", "--worker-only"]])
def test_what_cannot_start_says_so_in_lines_too(command: list[str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "ENGINEBENCH_PORT": "many", "ENGINEBENCH_LEASE_S": "soon"}
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    lines = lines_of(done.stderr)
    assert {line["event"] for line in lines} == {"cannot start"}
    assert {line["reason"].partition(":")[0] for line in lines} == {"ENGINEBENCH_PORT", "ENGINEBENCH_LEASE_S"}


def test_migrate_says_what_it_did_in_lines(empty_database_url: str) -> None:
    environment = {"PATH": os.environ["PATH"], "ENGINEBENCH_DATABASE_URL": empty_database_url}
    command = [sys.executable, "-m", "services.cli.main", "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert any(line["event"].startswith("Running upgrade") for line in lines_of(done.stderr))
