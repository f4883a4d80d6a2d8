"""Engines in containers, from a job over HTTP to the calls at the Docker Engine, which is a stand-in with real engines.

The stand-in starts simulated engines and records what it is asked; everything else is as a user has it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engines.simulated.profiles import PROFILES
from engines.simulated.start import simulated_engine
from tests.acceptance.test_kill import LONG_LEASE_S, PATIENT_LEASE_S, WORKLOAD
from tests.fakes.docker_engine import DockerEngine, FakeContainer, docker_engine
from tests.fakes.service import Service, await_true, free_port, running_service

NAMES = ("vllm-qwen2.5-7b", "vllm-mistral-7b", "tgi-qwen2.5-7b", "tgi-mistral-7b")
PATIENCE_S = 120.0

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@contextmanager
def stack(
    database_url: str, folder: Path, lease_s: float = LONG_LEASE_S
) -> Iterator[tuple[Service, DockerEngine, list[dict[str, Any]]]]:
    """The service, the Docker Engine that it may ask, and a target for each container there."""
    ports = {name: free_port() for name in NAMES}

    def program(name: str) -> AbstractContextManager[Any]:
        return simulated_engine(name, port=ports[name], speed=3.0)

    containers = (
        FakeContainer(name, program=lambda name=name: program(name), command=("--api-key", "sk-0123456789"))  # type: ignore[misc]
        for name in NAMES
    )
    with docker_engine(folder, *containers) as docker:
        settings = {"ENGINEBENCH_DOCKER_URL": docker.url, "ENGINEBENCH_CONTAINERS": ",".join(NAMES)}
        settings["ENGINEBENCH_LEASE_S"] = str(lease_s)
        with running_service(database_url, folder / "state", settings=settings) as service:
            yield service, docker, [target(name, ports[name]) for name in NAMES]
        assert docker.running == []
    assert all(len(running) == 1 for running in docker.running_after_start), docker.running_after_start


def target(name: str, port: int) -> dict[str, Any]:
    profile = PROFILES[name]
    reach = {"kind": "container", "container": name, "url": f"http://127.0.0.1:{port}"}
    return {"name": name, "engine": profile.engine, "model": profile.model.name, "reach": reach, "resources": ["gpu:0"]}


def started(docker: DockerEngine) -> list[str]:
    return [change.partition(" ")[2] for change in docker.changes if change.startswith("start ")]


def test_a_job_s_containers_take_turns_and_a_result_says_what_they_were(database_url: str, tmp_path: Path) -> None:
    with stack(database_url, tmp_path) as (service, docker, targets):
        first, second = targets[1], targets[3]
        docker.containers[NAMES[3]].dies_with = 1
        docker.containers[NAMES[3]].log = "ValueError: out of card memory, key sk-0123456789\n"
        job = service.submit(targets=[first, second], workloads=[WORKLOAD], repeats=2, order="abba", calibration=False)
        ended = service.await_job(job)
        assert [run["status"] for run in ended["runs"]] == ["completed", "failed", "failed", "completed"]
        assert "out of card memory, key [redacted]" in ended["runs"][1]["error"]
        assert started(docker) == [NAMES[1], NAMES[3], NAMES[3], NAMES[1]]
        run = service.client.get(f"/v1/runs/{ended['runs'][0]['id']}").json()
        server = run["result"]["environment"]["server"]
        assert server["flags"] == ["--api-key", "[redacted]", "PREFIX_CACHING=0"]
        assert server["info"]["image"] == "engine:1.2.3"
        assert server["info"]["image_digest"].startswith("sha256:")
        assert server["startup_s"] > 0
        assert run["result"]["environment"]["engine_log"] == "loading the weights"
        failed = service.client.get(f"/v1/runs/{ended['runs'][1]['id']}").json()["result"]
        assert failed["environment"]["engine_log"] == "ValueError: out of card memory, key [redacted]"
        assert {f"container:{NAMES[1]}", "gpu:0"} < {*run["resources"]}


def test_a_worker_killed_in_mid_run_and_a_cancel_leave_no_container(database_url: str, tmp_path: Path) -> None:
    long = WORKLOAD | {"requests": 5000}
    with stack(database_url, tmp_path, PATIENT_LEASE_S) as (service, docker, targets):
        job = service.submit(targets=targets[:2], workloads=[long], calibration=False)
        await_true(lambda: measuring(service, job), PATIENCE_S, service.log_tail)
        os.kill(worker_of(service), signal.SIGKILL)
        # The next life of the worker stops what its last one left, and carries the run out again.
        await_true(lambda: started(docker) == [NAMES[0]] * 2, PATIENCE_S, service.log_tail)
        await_true(lambda: measuring(service, job), PATIENCE_S, service.log_tail)
        service.client.post(f"/v1/jobs/{job}/cancel").raise_for_status()
        ended = service.await_job(job)
        assert [run["status"] for run in ended["runs"]] == ["cancelled"] * 2
        await_true(lambda: docker.running == [], PATIENCE_S, service.log_tail)
        again = service.await_job(service.submit(targets=targets[1:2], workloads=[WORKLOAD], calibration=False))
        assert again["runs"][0]["status"] == "completed"


def measuring(service: Service, job: str) -> bool:
    runs = service.client.get(f"/v1/jobs/{job}").json()["runs"]
    return any((run["progress"] or {}).get("stage") == "measuring" for run in runs if run["status"] == "running")


def worker_of(service: Service) -> int:
    """The worker's process, a child of the service's."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"--worker-only" in Path(f"/proc/{pid}/cmdline").read_bytes())
