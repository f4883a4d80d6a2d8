"""Targets over HTTP: created, listed, probed, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engines.simulated.start import SimulatedServer, simulated_engine
from services.store.database import Database
from tests.fakes.history import queue_job, take
from tests.fakes.results import make_result


def target(name: str = "a", url: str = "http://127.0.0.1:9", **more: Any) -> dict[str, Any]:
    return {"name": name, "engine": "vllm", "model": "mistral", "reach": {"kind": "attached", "url": url}} | more


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


def test_a_target_that_a_run_drives_is_not_probed(client: TestClient, database: Database) -> None:
    url = make_result()["spec"]["target"]["reach"]["url"]
    client.post("/v1/targets", json=target(url=url, resources=["server:vllm"])).raise_for_status()
    queue_job(database, make_result())
    claimed = take(database)
    busy = client.post("/v1/targets/a/probe")
    assert busy.status_code == 409
    assert claimed.run_id in busy.json()["detail"]
