"""`enginebench serve`: two processes under one parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.fakes.service import Service, await_true, running_service

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def role_of(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return next((word for word in command if word in ("--api-only", "--worker-only")), "")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_ready(service: Service) -> bool:
    try:
        return service.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_sigterm_stops_both_and_ends_well(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path / "state") as service:
        children = children_of(service.process.pid)
        assert {role_of(child) for child in children} == {"--api-only", "--worker-only"}
        os.kill(service.process.pid, signal.SIGTERM)
        assert service.process.wait(40) == 0
        assert not [child for child in children if is_alive(child)]


@pytest.mark.parametrize("role", ["--api-only", "--worker-only"])
def test_a_process_that_is_killed_is_started_again(database_url: str, tmp_path: Path, role: str) -> None:
    with running_service(database_url, tmp_path / "state") as service:
        parent = service.process.pid
        (victim,) = [child for child in children_of(parent) if role_of(child) == role]
        os.kill(victim, signal.SIGKILL)

        def is_back() -> bool:
            others = [child for child in children_of(parent) if role_of(child) == role and is_alive(child)]
            return bool(others) and victim not in others and is_ready(service)

        await_true(is_back, 30.0, service.log_tail)


def test_no_process_outlives_a_parent_that_is_killed(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path / "state") as service:
        children = children_of(service.process.pid)
        os.kill(service.process.pid, signal.SIGKILL)
        await_true(lambda: not any(map(is_alive, children)), 40.0, service.log_tail)


def serve(database_url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return enginebench("serve", database_url, *arguments, **settings)


def enginebench(
    command_name: str, database_url: str, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEBENCH_")}
    environment |= {"ENGINEBENCH_DATABASE_URL": database_url, **settings}
    command = [sys.executable, "-m", "services.cli.main", command_name, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_wrong_settings_are_two_and_named(database_url: str) -> None:
    public = serve(database_url, "--host", "0.0.0.0")
    assert (public.returncode, "ENGINEBENCH_API_KEYS" in public.stderr) == (2, True), public.stderr
    other = serve("mysql://somewhere/else")
    assert (other.returncode, "ENGINEBENCH_DATABASE_URL" in other.stderr) == (2, True), other.stderr
    typo = serve(database_url, ENGINEBENCH_LEASE_S="soon")
    assert (typo.returncode, "ENGINEBENCH_LEASE_S" in typo.stderr) == (2, True), typo.stderr


def test_a_port_that_is_taken_ends_it(database_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = serve(database_url, "--port", str(taken.getsockname()[1]), ENGINEBENCH_STATE_DIR=str(tmp_path / "state"))
    assert done.returncode == 2
    assert "cannot listen" in done.stderr
    assert "--port" in done.stderr
    assert done.stderr.count('"role": "api"') == 1


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_database_that_cannot_be_made_is_named(command: str, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = enginebench(command, f"sqlite:///{tmp_path}/file/x.sqlite", ENGINEBENCH_STATE_DIR=str(tmp_path / "state"))
    assert done.returncode == 2
    told = json.loads(done.stderr)
    assert (told["event"], told["command"]) == ("cannot start", command)
    assert told["reason"].startswith(f"ENGINEBENCH_DATABASE_URL: {tmp_path}/file cannot be used: ")
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_written_is_named(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = enginebench("serve", database_url, "--port", "0", ENGINEBENCH_STATE_DIR=str(tmp_path / "file" / "state"))
    assert done.returncode == 2
    assert "ENGINEBENCH_STATE_DIR: " in done.stderr
    assert "name a folder that may be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_event_stream_does_not_hold_the_end_up(database_url: str, tmp_path: Path) -> None:
    target = {"name": "a", "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://127.0.0.1:9"}}
    with running_service(database_url, tmp_path / "state", "--api-only") as service:
        job_id = service.submit(targets=[target], workloads=["explain-quantum"])
        with service.client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "id: 1"
            os.kill(service.process.pid, signal.SIGTERM)
            assert service.process.wait(30) == 0
        assert "Traceback" not in service.log.read_text()
