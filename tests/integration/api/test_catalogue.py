"""What can be asked for, what others have published, and whether the service is there."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
from fastapi.testclient import TestClient

from bench_runner.plan.presets import PRESETS
from engines.catalog import ENGINES
from services.api.app import create_app
from services.settings import Settings
from services.store.database import Database


def test_engines_with_what_they_can_do(client: TestClient) -> None:
    engines = {engine["name"]: engine for engine in client.get("/v1/engines").json()["items"]}
    assert set(engines) == set(ENGINES)
    assert engines["vllm"]["capabilities"]["fixed_length"] is True
    assert engines["tgi"]["capabilities"]["fixed_length"] is False
    assert engines["tgi"]["endpoints"] == ["completions", "chat", "native"]
    assert engines["bud"]["launchable"] is False


def test_presets_with_their_spec(client: TestClient) -> None:
    workloads = {workload["name"]: workload for workload in client.get("/v1/workloads").json()["items"]}
    assert set(workloads) == set(PRESETS)
    burst = client.get("/v1/workloads/burst-100x128x128").json()
    assert burst == workloads["burst-100x128x128"]
    assert (burst["spec"]["requests"], burst["spec"]["output_tokens"]["tokens"]) == (100, 128)
    unknown = client.get("/v1/workloads/none")
    assert unknown.status_code == 404
    assert "burst-100x128x128" in unknown.json()["errors"][0]["mend"]


def test_published_rows_with_their_notes(client: TestClient) -> None:
    rows = client.get("/v1/references?workload=published-a100").json()["items"]
    assert {row["engine"] for row in rows} == {"vllm", "tgi", "bud"}
    (vllm,) = client.get("/v1/references?workload=published-a100&engine=vllm").json()["items"]
    assert vllm["duration_s"] == 7.05
    assert "101" in vllm["note"]
    assert client.get("/v1/references?engine=none").json()["items"] == []


def test_ready_once_the_database_is_migrated(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "checks": {"database": "ok", "schema": "ok"}}
    bare = Settings(database_url=f"sqlite:///{tmp_path / 'bare.sqlite'}")
    with TestClient(create_app(bare), base_url="http://127.0.0.1") as unready:
        answer = unready.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
        assert "not migrated" in answer.json()["checks"]["schema"]
        assert unready.get("/healthz").status_code == 200


def test_not_ready_on_the_schema_of_another_version(client: TestClient, database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'ffff'")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "ffff" in answer.json()["checks"]["schema"]


def test_a_database_that_is_gone_is_503_and_never_500(tmp_path: Path) -> None:
    settings = Settings(database_url="postgresql://nobody:secret-word@127.0.0.1:1/none")
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        for path in ("/readyz", "/v1/runs", "/v1/jobs", "/v1/targets/a"):
            answer = client.get(path)
            assert answer.status_code == 503, path
            assert "secret-word" not in answer.text
        metrics = client.get("/metrics")
        assert (metrics.status_code, "enginebench_store_up 0.0" in metrics.text) == (200, True)


def test_the_document_names_every_route_and_every_refusal(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            refusals = {s: r for s, r in operation["responses"].items() if int(s) >= 400}
            assert {"422", "500"} <= set(refusals), (method, path)
            if "{" in path:
                assert "404" in refusals, (method, path)
            for status, refusal in refusals.items():
                types = set(refusal["content"])
                assert "application/problem+json" in types or (path, status) == ("/readyz", "503"), (method, path)
            assert operation["summary"]
            if "requestBody" in operation:
                assert {"400", "413"} <= set(refusals)
                assert operation["requestBody"]["content"]["application/json"]["examples"]


def test_every_answer_has_an_example_that_its_schema_allows(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            good = [answer for status, answer in operation["responses"].items() if int(status) < 400]
            for media, body in (pair for answer in good for pair in answer.get("content", {}).items()):
                if media == "application/json":
                    schema = body["schema"] | {"components": document["components"]}
                    jsonschema_rs.validate(schema, body["example"])
                else:
                    assert body["example"].strip(), (method, path)
