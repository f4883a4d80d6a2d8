"""`enginebench doctor` as a person uses it: on a GPU host made up of stand-ins, and on a laptop."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bench_runner.load.connection import SO_TIMESTAMPNS
from services.cli.checks import kernel
from services.cli.checks.docker import read_docker
from services.cli.checks.environment import REQUIRED
from services.cli.checks.finding import State
from services.cli.checks.kernel import has_receive_stamps, read_host
from services.cli.checks.service import Port, judge_ports, read_ports
from services.cli.main import main
from services.domain.key import Role
from services.store.database import close, open_database
from services.store.keys import create_key
from tests.fakes import nvidia_smi
from tests.fakes.docker_engine import FakeContainer, docker_engine
from tests.fakes.service import free_port, running_service

SECRET = "s3cret-word"


@pytest.fixture
def gpu_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with an A100 in order, a .env with all passwords and a token, and nothing listening."""
    programs = nvidia_smi.place(tmp_path / "bin", nvidia_smi.answer(nvidia_smi.A100))
    toolkit = programs / "nvidia-ctk"
    toolkit.write_text("#!/bin/sh\n")
    toolkit.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENGINEBENCH_STATE_DIR", str(tmp_path / "state"))
    lines = [f"{name}={SECRET}" for name in (*REQUIRED, "HF_TOKEN")]
    lines += [f"PUBLISH=127.0.0.1:{free_port()}", f"PUBLISH_GRAFANA=127.0.0.1:{free_port()}", "GPU=0"]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examined(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    capsys.readouterr()
    code = main(["doctor", "--json", *words])
    told = capsys.readouterr().out
    assert SECRET not in told
    return code, {one["check"]: one for one in json.loads(told)["checks"]}


def test_a_gpu_host_in_order_has_no_fail(
    gpu_host: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", database_url)
    with docker_engine(gpu_host, FakeContainer("vllm-a"), FakeContainer("tgi-a")) as docker:
        monkeypatch.setenv("ENGINEBENCH_DOCKER_URL", docker.url)
        monkeypatch.setenv("ENGINEBENCH_CONTAINERS", "vllm-a,tgi-a")
        code, checks = examined(capsys, "--gpu", "--models", str(gpu_host))
        assert {method for method, _ in docker.calls} == {"GET"}, "nothing is started or stopped"
    mine = {name: one["state"] for name, one in checks.items() if name != "disk for models"}
    assert "fail" not in mine.values(), checks
    assert (code == 0) == (checks["disk for models"]["state"] != "fail")
    for name in ("gpu 0 memory", "Docker Engine", "engine containers", "database", "state folder", "settings"):
        assert mine[name] == "ok", checks[name]
    assert checks["token for gated models"]["seen"] == "set (.env)"
    assert not (gpu_host / "state").exists(), "nothing is made"


def test_everything_that_is_wrong_is_told_with_its_mend(
    gpu_host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    nvidia_smi.place(gpu_host / "bin", broken, exit_code=9)
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/none")
    monkeypatch.setenv("ENGINEBENCH_DOCKER_URL", f"unix://{gpu_host}/none.sock")
    (gpu_host / ".env").write_text(f"POSTGRES_PASSWORD={SECRET}\n")
    code, checks = examined(capsys, "--gpu")
    assert code == 1
    failed = {name for name, one in checks.items() if one["state"] == "fail"}
    assert failed >= {"gpu driver", "Docker Engine", "database", "docker compose's .env", "token for gated models"}
    assert all(checks[name]["mend"] for name in failed)
    assert broken in checks["gpu driver"]["seen"]


def test_a_laptop_is_warned_and_not_failed_unless_a_card_is_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINEBENCH_PORT", str(free_port()))
    _, checks = examined(capsys)
    assert checks["gpu driver"]["state"] == "warn"
    assert checks["gpu driver"]["seen"].endswith("simulated and CPU engines only")
    assert checks["database"]["seen"] == "sqlite: not there yet; enginebench serve makes it"
    assert not list(tmp_path.iterdir())
    code, checks = examined(capsys, "--gpu")
    assert (code, checks["gpu driver"]["state"]) == (1, "fail")


def test_for_a_person_it_is_a_line_a_check_and_what_to_do_under_it(
    gpu_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvidia_smi.place(gpu_host / "bin", nvidia_smi.answer(nvidia_smi.OLD_A100))
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("WARN  gpu 0 power limit"))
    assert lines[at + 1].endswith("→ sudo nvidia-smi -i 0 -pl 400")
    assert lines[-1].split()[1] == "ok,"


def test_settings_that_cannot_be_read_are_a_fail_and_the_rest_is_looked_at(
    gpu_host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINEBENCH_PORT", "many")
    code, checks = examined(capsys)
    assert code == 1
    assert checks["settings"]["seen"].startswith("ENGINEBENCH_PORT: ")
    assert checks["gpu 0 memory"]["state"] == "ok"


def test_a_port_is_ours_where_this_service_answers_and_anothers_where_not(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running_service(f"sqlite:///{tmp_path}/x.sqlite", tmp_path / "state", "--api-only") as service,
    ):
        ports = [Port("API", "127.0.0.1", each, "PORT") for each in (taken.getsockname()[1], service.port, free_port())]
        theirs, ours, free = read_ports(ports)
    assert (theirs.error is not None, theirs.is_service) == (True, False)
    assert (ours.error is not None, ours.is_service) == (True, True)
    assert free.error is None


def test_an_api_that_would_be_open_to_everybody_is_a_fail_as_serve_refuses_it(
    gpu_host: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", database_url)
    _, checks = examined(capsys)
    assert (checks["API keys"]["state"], checks["API keys"]["seen"]) == ("ok", "127.0.0.1: reached from this host only")
    monkeypatch.setenv("ENGINEBENCH_HOST", "0.0.0.0")
    code, checks = examined(capsys)
    assert (code, checks["API keys"]["state"]) == (1, "fail")
    assert "enginebench admin keys create" in checks["API keys"]["mend"]
    database = open_database(database_url)
    try:
        create_key(database, name="me", role=Role.ADMIN)
    finally:
        close(database)
    assert examined(capsys)[1]["API keys"]["state"] == "ok"
    absent = gpu_host / "none.sqlite"
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", f"sqlite:///{absent}")
    assert examined(capsys)[1]["API keys"]["state"] == "fail"
    assert not absent.exists()
    monkeypatch.setenv("ENGINEBENCH_API_KEYS", SECRET)
    assert examined(capsys)[1]["API keys"]["state"] == "ok"


class GrafanaHealth(BaseHTTPRequestHandler):
    """What Grafana says of its health, and nothing of any other page."""

    def do_GET(self) -> None:
        body = b'{"database": "ok", "version": "12.3.0", "commit": "0"}' if self.path == "/api/health" else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_grafana_is_known_by_its_own_page_and_is_no_api() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), GrafanaHealth) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            found = read_ports([Port(of, "127.0.0.1", server.server_port, "PUBLISH") for of in ("Grafana", "API")])
        finally:
            server.shutdown()
            thread.join()
    grafana, api = judge_ports(found)
    assert (grafana.state, grafana.seen) == (State.OK, "Grafana answers there")
    assert api.state is State.FAIL


def test_a_port_that_cannot_be_had_on_an_address_of_version_6_is_told() -> None:
    taken_by_nobody = Port("API", "2001:db8::1", free_port(), "PUBLISH")
    (found,) = read_ports([taken_by_nobody])
    assert (found.error is not None, found.is_service) == (True, False)


def test_a_port_that_is_none_is_a_fail_and_the_rest_is_looked_at(
    gpu_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = gpu_host / ".env"
    env.write_text(env.read_text() + "\nPUBLISH=127.0.0.1:87000")
    code, checks = examined(capsys)
    assert code == 1
    assert checks["port (API)"]["state"] == "fail"
    assert checks["port (API)"]["seen"] == "PUBLISH in .env: '127.0.0.1:87000' names no port"
    assert checks["gpu 0 memory"]["state"] == "ok"


def test_this_host_says_what_it_is() -> None:
    facts = read_host()
    assert (facts.cores or 0) >= 1
    assert has_receive_stamps() is True, "the instrument's own need"


@pytest.mark.parametrize(("first_stamped", "said"), [(3, True), (None, False)])
def test_a_kernel_is_given_time_to_begin_its_stamps(
    monkeypatch: pytest.MonkeyPatch, first_stamped: int | None, said: bool
) -> None:
    received = 0
    stamp = (socket.SOL_SOCKET, SO_TIMESTAMPNS, bytes(16))

    def recvmsg(
        self: socket.socket, size: int, _ancillary: int
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        nonlocal received
        received += 1
        is_stamped = first_stamped is not None and received >= first_stamped
        return self.recv(size), [stamp] if is_stamped else [], 0, None

    monkeypatch.setattr(socket.socket, "recvmsg", recvmsg)
    if not said:
        monkeypatch.setattr(kernel, "_STAMPS_WITHIN_S", 0.05)
    assert has_receive_stamps() is said


def test_a_container_that_runs_and_what_the_proxy_refuses_are_seen(tmp_path: Path) -> None:
    with docker_engine(tmp_path, FakeContainer("a", running=True)) as docker:
        found = read_docker(docker.url, ("a", "b"))
        docker.allows = {("POST", "start")}
        refused = read_docker(docker.url, ("a",))
    assert getattr(found.containers[0], "running", None) is True
    assert "there is no container 'b'" in str(found.containers[1])
    assert "proxy does not allow" in str(refused.containers[0])
