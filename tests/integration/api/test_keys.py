"""Keys of the database over HTTP, on both databases: made and revoked by the command line, each held to its role."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.cli.keys import ROLES
from services.cli.main import main
from services.domain.errors import Unavailable
from services.domain.key import Role, draw_key
from services.settings import Settings
from services.store.database import Database
from services.store.jobs import list_jobs
from services.store.keys import create_key, revoke_key
from tests.fakes.history import one_run
from tests.fakes.service import await_true, running_service

TARGET = {"name": "a", "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://127.0.0.1:9"}}
JOB = {"targets": [TARGET], "workloads": ["burst-100x128x128"]}
ENVIRONMENT_KEY = "the-key-of-the-environment"
SCRAPE_KEY = "the-key-of-prometheus"

Admin = Callable[..., Any]


@pytest.fixture
def admin(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Admin:
    """`enginebench admin keys … --json`, its answer."""
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", database_url)

    def run(*words: str) -> Any:
        capsys.readouterr()
        assert main(["admin", "keys", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def opened(database_url: str) -> Iterator[Callable[..., TestClient]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> TestClient:
            app = create_app(Settings(database_url=database_url, **settings))
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1:8700"))

        yield start


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_stream_of_events_ends_when_its_key_is_revoked(database_url: str, tmp_path: Path, admin: Admin) -> None:
    ours, other = (admin("create", "--name", name, "--role", "run") for name in ("ours", "other"))
    with running_service(database_url, tmp_path / "state", "--api-only") as service:
        job_id = service.client.post("/v1/jobs", json=JOB, headers=bearer(ours["key"])).json()["id"]
        admin("revoke", other["id"])
        # Comments come each 15 s: a stream that goes on is silent for longer than this waits.
        with service.client.stream(
            "GET", f"/v1/jobs/{job_id}/events", headers=bearer(ours["key"]), timeout=10
        ) as stream:
            lines = stream.iter_lines()
            assert [next(lines) for _ in range(2)] == ["id: 1", "event: job"]
            admin("revoke", ours["id"])
            assert not [line for line in lines if line.startswith("event: ")]
        assert service.client.get(f"/v1/jobs/{job_id}/events", headers=bearer(ours["key"])).status_code == 401


def test_a_service_with_stored_keys_holds_each_to_its_role(database_url: str, tmp_path: Path, admin: Admin) -> None:
    keys = {role: admin("create", "--name", f"for {role}", "--role", role) for role in ROLES}
    with running_service(database_url, tmp_path / "state", "--api-only") as service:
        client = service.client

        def status(method: str, path: str, role: str, **more: Any) -> int:
            return client.request(method, path, headers=bearer(keys[role]["key"]), **more).status_code

        assert client.get("/v1/runs").status_code == 401
        assert [status("GET", "/v1/runs", role) for role in ROLES] == [200, 200, 200]
        assert [status("GET", "/metrics", role) for role in ROLES] == [200, 200, 200]
        assert [status("POST", "/v1/jobs", role, json=JOB) for role in ROLES] == [403, 202, 202]
        assert [status("POST", "/v1/targets", role, json={**TARGET, "name": role}) for role in ROLES] == [403, 201, 201]
        assert [status("DELETE", "/v1/targets/run", role) for role in ROLES] == [403, 403, 204]
        assert [status("PATCH", "/v1/runs/none", role, json={"excluded_note": "why"}) for role in ROLES] == [
            403,
            403,
            404,
        ]
        refused = client.patch("/v1/runs/none", headers=bearer(keys["run"]["key"]), content=b"{")
        assert refused.headers["content-type"] == "application/problem+json"
        (problem,) = refused.json()["errors"]
        assert problem["problem"] == "this key has the role run, and PATCH /v1/runs/none wants admin"
        assert "admin keys create" in problem["mend"]
        assert "--role admin" in problem["mend"]
        made_by = [
            job["created_by"] for job in client.get("/v1/jobs", headers=bearer(keys["read"]["key"])).json()["items"]
        ]
        assert made_by == [{"id": keys[role]["id"], "name": f"for {role}"} for role in ("admin", "run")]

        # Revoked while it runs: at the next request.
        admin("revoke", keys["admin"]["id"])
        gone = client.get("/v1/runs", headers=bearer(keys["admin"]["key"]))
        assert (gone.status_code, gone.headers["www-authenticate"]) == (401, "Bearer")
        assert gone.json()["errors"][0]["problem"] == "this API key was revoked"
        listed = {key["name"]: key for key in admin("list")}
        assert listed["for admin"]["revoked_at"] is not None
        assert all(key["last_used_at"] for key in listed.values())
        assert all(keys[role]["key"] not in service.log.read_text() for role in ROLES)


def test_an_open_service_wants_a_key_once_one_was_made(database_url: str, tmp_path: Path, admin: Admin) -> None:
    with running_service(database_url, tmp_path / "state", "--api-only") as service:
        assert service.client.get("/v1/runs").status_code == 200
        assert "securitySchemes" not in service.client.get("/openapi.json").json()["components"]
        key = admin("create", "--name", "first", "--role", "read")
        await_true(lambda: service.client.get("/v1/runs").status_code == 401, 60.0, service.log_tail)
        answer = service.client.get("/openapi.json", headers=bearer(key["key"]))
        assert answer.json()["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
        # With its last key revoked it lets nobody in, rather than everybody.
        admin("revoke", key["id"])
        assert service.client.get("/v1/runs").status_code == 401
        assert service.client.get("/v1/runs", headers=bearer(key["key"])).status_code == 401
        assert service.client.get("/healthz").status_code == 200


def serve_publicly(database_url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEBENCH_")}
    environment |= {"ENGINEBENCH_DATABASE_URL": database_url, "ENGINEBENCH_HOST": "0.0.0.0", **settings}
    command = [sys.executable, "-m", "services.cli.main", "serve", "--api-only", "--port", "0"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_beyond_loopback_wants_a_key_in_force(
    database_url: str, database: Database, tmp_path: Path, admin: Admin
) -> None:
    for _ in range(2):
        refused = serve_publicly(database_url)
        assert refused.returncode == 2
        for mend in ("ENGINEBENCH_HOST", "admin keys create", "ENGINEBENCH_API_KEYS", "ENGINEBENCH_ALLOW_UNAUTH"):
            assert mend in refused.stderr
        # A revoked one opens nothing, so it does not count.
        key, _ = create_key(database, name="gone", role=Role.ADMIN)
        revoke_key(database, key.id)
    text = admin("create", "--name", "first", "--role", "read")["key"]
    settings = {"ENGINEBENCH_HOST": "0.0.0.0"}
    with running_service(database_url, tmp_path / "state", "--api-only", settings=settings) as service:
        assert service.client.get("/v1/runs").status_code == 401
        assert service.client.get("/v1/runs", headers=bearer(text)).status_code == 200


def test_beyond_loopback_nobody_is_let_in_while_the_database_is_away() -> None:
    gone = Settings(host="0.0.0.0", database_url="postgresql://nobody@127.0.0.1:1/none")
    with TestClient(create_app(gone), base_url="http://bench.example") as client:
        assert client.get("/healthz").status_code == 200
        for path in ("/v1/engines", "/metrics", "/openapi.json", "/nothing"):
            assert client.get(path).status_code == 401, path
            assert client.get(path, headers=bearer(draw_key()[1])).status_code == 503, path


def test_keys_of_the_environment_go_on_doing_everything(opened: Callable[..., TestClient], database: Database) -> None:
    _, text = create_key(database, name="ci", role=Role.READ)
    run_id = one_run(database)
    client = opened(api_keys=(ENVIRONMENT_KEY,), metrics_key=SCRAPE_KEY)
    excluded = client.patch(f"/v1/runs/{run_id}", json={"excluded_note": "why"}, headers=bearer(ENVIRONMENT_KEY))
    assert excluded.status_code == 200
    job = client.post("/v1/jobs", json=JOB, headers=bearer(ENVIRONMENT_KEY)).json()
    assert job["created_by"] == {"id": None, "name": "environment"}
    shown = client.get(f"/v1/jobs/{job['id']}", headers=bearer(text)).json()
    assert shown["created_by"] == job["created_by"]
    for key, status in ((SCRAPE_KEY, 200), (text, 200), (ENVIRONMENT_KEY, 200), ("other", 401), ("", 401)):
        assert client.get("/metrics", headers=bearer(key)).status_code == status, key
    assert client.get("/v1/runs", headers=bearer(SCRAPE_KEY)).status_code == 403


def test_a_job_without_a_key_was_made_by_nobody(opened: Callable[..., TestClient], database: Database) -> None:
    client = opened()
    job = client.post("/v1/jobs", json=JOB).raise_for_status().json()
    assert job["created_by"] is None
    assert list_jobs(database).items[0].created_by is None


def test_a_scrape_key_alone_guards_the_metrics_of_an_open_service(opened: Callable[..., TestClient]) -> None:
    client = opened(metrics_key=SCRAPE_KEY)
    assert client.get("/v1/runs").status_code == 200
    assert [client.get("/metrics", headers=headers).status_code for headers in ({}, bearer(SCRAPE_KEY))] == [401, 200]


def test_without_its_database_nobody_is_let_in_and_nobody_is_turned_away(
    opened: Callable[..., TestClient], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = create_key(database, name="ci", role=Role.READ)
    client = opened(api_keys=(ENVIRONMENT_KEY,))

    def away(*_: object) -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr("services.api.keyring.find_key", away)
    answer = client.get("/v1/engines", headers=bearer(text))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/engines", headers=bearer(ENVIRONMENT_KEY)).status_code == 200
    monkeypatch.setattr("services.api.keyring.is_any_made", away)
    fresh = opened()
    assert fresh.get("/v1/engines").status_code == 503
    assert fresh.get("/metrics").status_code == 200
    assert fresh.get("/healthz").status_code == 200
    monkeypatch.undo()
    assert fresh.get("/v1/engines").status_code == 401


def test_what_was_open_stays_open_while_its_database_is_away(
    opened: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened()

    def away(*_: object) -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr("services.api.keyring.is_any_made", away)
    monkeypatch.setattr("services.api.keyring.LOOK_EVERY_S", 0.0)
    assert client.get("/v1/engines").status_code == 200


def test_the_service_is_asked_for_by_its_own_command_line(
    database_url: str, tmp_path: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = admin("create", "--name", "me", "--role", "read")["key"]
    with running_service(database_url, tmp_path / "state", "--api-only") as service:
        monkeypatch.setenv("ENGINEBENCH_SERVER", f"http://127.0.0.1:{service.port}")
        assert main(["runs", "list"]) == 2
        monkeypatch.setenv("ENGINEBENCH_API_KEY", key)
        assert main(["runs", "list"]) == 0
        assert httpx.get(f"http://127.0.0.1:{service.port}/v1/jobs", trust_env=False).status_code == 401
