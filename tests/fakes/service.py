"""The whole service as a user starts it: `enginebench serve` in processes of its own, and a client of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from engines.clock import monotonic_ns, sleep_s

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def submit(self, **job: Any) -> str:
        """Post a job; its id."""
        answer = self.client.post("/v1/jobs", json=job)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def await_job(self, job_id: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """The job once it has ended."""
        job: dict[str, Any] = {}

        def ended() -> bool:
            job.update(self.client.get(f"/v1/jobs/{job_id}").raise_for_status().json())
            return job["status"] in ("completed", "failed", "cancelled")

        await_true(ended, timeout_s, lambda: f"job {job_id} is {job.get('status')}; log: {self.log_tail()}")
        return job

    def log_tail(self) -> str:
        """The last lines the service wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


@contextmanager
def running_service(
    database_url: str,
    state_dir: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    program: str = "services.cli.main",
) -> Iterator[Service]:
    """`enginebench serve` on a free port, ready; stopped by SIGTERM at the end, and killed where that does not help."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEBENCH_")}
    environment |= {
        "ENGINEBENCH_DATABASE_URL": database_url,
        "ENGINEBENCH_STATE_DIR": str(state_dir),
        "ENGINEBENCH_POLL_S": "0.1",
        **(settings or {}),
    }
    state_dir.mkdir(parents=True, exist_ok=True)
    log = state_dir / f"service-{port}.log"
    command = [sys.executable, "-m", program, "serve", "--port", str(port), *arguments]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30.0, headers=dict(headers or {})
        ) as client:
            service = Service(client, process, port, log)
            await_true(lambda: _is_ready(service), READY_TIMEOUT_S, service.log_tail)
            yield service
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"the service did not stop on SIGTERM: {log.read_text(errors='replace')}") from None


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_true(condition: Callable[[], bool], timeout_s: float, tell: Callable[[], str], every_s: float = 0.1) -> None:
    """Look until the condition holds; AssertionError with what `tell` says where it never does."""
    deadline_ns = monotonic_ns() + int(timeout_s * 1e9)
    while not condition():
        assert monotonic_ns() < deadline_ns, tell()
        sleep_s(every_s)


def _is_ready(service: Service) -> bool:
    assert service.process.poll() is None, service.log_tail()
    try:
        return service.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
