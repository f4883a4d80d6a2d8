"""Who may come in: keys, hosts, origins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.settings import Settings

KEY = "a-key-for-people"
OTHER = "a-key-for-scripts"
SCRAPE = "a-key-for-prometheus"
PATHS = ("/v1/jobs", "/v1/runs", "/v1/targets", "/v1/engines", "/openapi.json", "/docs", "/metrics", "/nothing")

Open = Callable[..., TestClient]


@pytest.fixture
def opened(migrated_sqlite: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def start(base_url: str = "http://127.0.0.1:8700", **settings: Any) -> TestClient:
            app = create_app(Settings(database_url=f"sqlite:///{migrated_sqlite}", **settings))
            return stack.enter_context(TestClient(app, base_url=base_url))

        yield start


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_with_keys_every_route_but_health_wants_one(opened: Open) -> None:
    client = opened(api_keys=(KEY, OTHER))
    for path in ("/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    for path in PATHS:
        for headers in ({}, bearer("wrong"), bearer(""), bearer(KEY[:-1]), {"authorization": KEY}, bearer("\u00e9")):
            raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
            answer = client.get(path, headers=raw)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (path, headers)
            assert answer.headers["content-type"] == "application/problem+json"
            assert KEY not in answer.text
        for key in (KEY, OTHER):
            assert client.get(path, headers=bearer(key)).status_code == (404 if path == "/nothing" else 200), path


def test_the_scrape_key_reads_metrics_and_nothing_else(opened: Open) -> None:
    client = opened(api_keys=(KEY,), metrics_key=SCRAPE)
    assert client.get("/metrics", headers=bearer(SCRAPE)).status_code == 200
    assert client.get("/metrics", headers=bearer(KEY)).status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/v1/runs", headers=bearer(SCRAPE)).status_code == 403


def test_without_keys_only_this_host_is_answered(opened: Open) -> None:
    client = opened()
    for host in ("127.0.0.1", "127.0.0.1:8700", "localhost", "localhost:1", "[::1]:8700"):
        assert client.get("/v1/runs", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "evil.example:8700", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "local host"):
        answer = client.get("/v1/runs", headers={"host": host})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (421, "Host"), host


def test_with_keys_any_host_name_is_answered(opened: Open) -> None:
    client = opened(base_url="http://bench.example", api_keys=(KEY,))
    assert client.get("/v1/runs", headers=bearer(KEY)).status_code == 200


def test_a_page_of_another_origin_may_not_post(opened: Open) -> None:
    client = opened()
    for origin, status in (("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:8700", 404)):
        assert client.post("/v1/jobs/none/cancel", headers={"origin": origin}).status_code == status, origin


def test_the_document_says_that_a_key_is_wanted(opened: Open) -> None:
    document = opened(api_keys=(KEY,)).get("/openapi.json", headers=bearer(KEY)).json()
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in ("/healthz", "/readyz"))
