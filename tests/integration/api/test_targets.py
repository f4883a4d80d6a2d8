"""Targets over HTTP: created, listed, probed, deleted."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from fastapi.testclient import TestClient

from engines.simulated.start import SimulatedServer, simulated_engine
from services.api.app import create_app
from services.settings import Settings
from services.store.database import Database
from tests.fakes.history import queue_job, take
from tests.fakes.results import make_result
from tests.integration.api.conftest import BASE_URL


def target(name: str = "a", url: str = "http://127.0.0.1:9", **more: Any) -> dict[str, Any]:
    return {"name": name, "engine": "vllm", "model": "mistral", "reach": {"kind": "attached", "url": url}} | more


@pytest.fixture
def app_client(migrated_sqlite: Path, tmp_path: Path) -> Iterator[tuple[FastAPI, TestClient]]:
    """An application of the test's own."""
    shutil.copy(migrated_sqlite, tmp_path / "own.sqlite")
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path / 'own.sqlite'}"))
    with TestClient(app, base_url=BASE_URL) as opened:
        yield app, opened


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=20) as running:
        yield running


def test_created_shown_listed_and_deleted(client: TestClient) -> None:
    created = client.post("/v1/targets", json=target("b", hardware="A100-80GB"))
    assert (created.status_code, created.headers["location"]) == (201, "/v1/targets/b")
    client.post("/v1/targets", json=target("a", engine="tgi")).raise_for_status()
    assert client.get("/v1/targets/b").json() == created.json()
    assert created.json()["hardware"] == "A100-80GB"
    assert [t["name"] for t in client.get("/v1/targets").json()["items"]] == ["a", "b"]
    assert [t["name"] for t in client.get("/v1/targets?engine=tgi").json()["items"]] == ["a"]
    page = client.get("/v1/targets?limit=1").json()
    rest = client.get("/v1/targets", params={"limit": 1, "cursor": page["next"]}).json()
    assert [t["name"] for t in page["items"] + rest["items"]] == ["a", "b"]
    assert client.delete("/v1/targets/b").status_code == 204
    assert client.get("/v1/targets/b").status_code == 404
    assert client.delete("/v1/targets/b").status_code == 404


def test_a_name_is_taken_once(client: TestClient) -> None:
    client.post("/v1/targets", json=target()).raise_for_status()
    again = client.post("/v1/targets", json=target(model="other"))
    assert again.status_code == 409
    assert "'a'" in again.json()["detail"]


def test_deleting_a_target_leaves_its_runs_as_they_were(client: TestClient) -> None:
    client.post("/v1/targets", json=target(flags=["--max-num-seqs=128"])).raise_for_status()
    client.post("/v1/jobs", json={"targets": ["a"], "workloads": ["burst-100x128x128"]}).raise_for_status()
    client.delete("/v1/targets/a").raise_for_status()
    (run,) = client.get("/v1/runs?target=a").json()["items"]
    assert client.get(f"/v1/runs/{run['id']}").json()["spec"]["target"]["flags"] == ["--max-num-seqs=128"]


def test_a_probe_tells_what_answers(client: TestClient, server: SimulatedServer) -> None:
    client.post("/v1/targets", json=target(url=server.url, model=server.model)).raise_for_status()
    probe = client.post("/v1/targets/a/probe").json()
    assert (probe["ok"], probe["simulated"], probe["failure"]) == (True, True, None), probe
    assert probe["figures"]["version"]


def test_a_probe_tells_what_does_not(client: TestClient, server: SimulatedServer) -> None:
    client.post("/v1/targets", json=target()).raise_for_status()
    client.post("/v1/targets", json=target("wrong", url=server.url, model="another/model")).raise_for_status()
    down = client.post("/v1/targets/a/probe")
    assert (down.status_code, down.json()["ok"], down.json()["failure"]) == (200, False, "connect")
    wrong = client.post("/v1/targets/wrong/probe").json()
    assert (wrong["ok"], wrong["failure"]) == (False, "rejected")
    assert server.model in wrong["message"]
    assert client.post("/v1/targets/none/probe").status_code == 404


def test_a_probe_of_a_silent_target_waits_as_long_as_it_is_told(client: TestClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client.post("/v1/targets", json=target(url=url)).raise_for_status()
        probe = client.post("/v1/targets/a/probe", params={"timeout_s": 1}).json()
    assert (probe["ok"], probe["failure"]) == (False, "timeout")
    assert "within 1 s" in probe["message"]
    for wrong in ("0", "61", "nan", "soon"):
        answer = client.post("/v1/targets/a/probe", params={"timeout_s": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "timeout_s"), wrong


@contextmanager
def nothing_left(client: TestClient, limiter_of: Callable[[], CapacityLimiter]) -> Iterator[None]:
    """Every token of a limiter in other hands."""
    assert client.portal is not None
    hands: list[object] = []

    async def take() -> None:
        limiter = limiter_of()
        while limiter.available_tokens:
            hands.append(object())
            await limiter.acquire_on_behalf_of(hands[-1])

    async def give() -> None:
        for hand in hands:
            limiter_of().release_on_behalf_of(hand)

    client.portal.call(take)
    try:
        yield
    finally:
        client.portal.call(give)


def answer_of(client: TestClient, method: str, path: str) -> Any:
    """An answer, or an error where none comes."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(client.request, method, path).result(60)


def test_probes_have_threads_of_their_own_and_never_more(app_client: tuple[FastAPI, TestClient]) -> None:
    app, client = app_client
    client.post("/v1/targets", json=target()).raise_for_status()
    with nothing_left(client, lambda: app.state.probes):
        busy = client.post("/v1/targets/a/probe")
        assert (busy.status_code, "probes are under way" in busy.json()["detail"]) == (409, True)
    with nothing_left(client, to_thread.current_default_thread_limiter):
        assert answer_of(client, "POST", "/v1/targets/a/probe").json()["failure"] == "connect"


def test_health_is_told_while_every_thread_waits(app_client: tuple[FastAPI, TestClient]) -> None:
    _, client = app_client
    with nothing_left(client, to_thread.current_default_thread_limiter):
        assert answer_of(client, "GET", "/healthz").json() == {"status": "ok"}


def test_a_target_that_a_run_drives_is_not_probed(client: TestClient, database: Database) -> None:
    url = make_result()["spec"]["target"]["reach"]["url"]
    client.post("/v1/targets", json=target(url=url, resources=["server:vllm"])).raise_for_status()
    queue_job(database, make_result())
    claimed = take(database)
    busy = client.post("/v1/targets/a/probe")
    assert busy.status_code == 409
    assert claimed.run_id in busy.json()["detail"]
