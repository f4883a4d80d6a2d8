"""Every operation of the API has a role, and nothing that has a role is no operation."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from services.api.app import create_app
from services.api.roles import OPERATIONS, is_open, role_for
from services.domain.key import Role
from services.settings import Settings


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder: Path = tmp_path_factory.mktemp("roles")
    return create_app(Settings(database_url=f"sqlite:///{folder}/none.sqlite", api_keys=("key",)))


def test_every_operation_has_a_role_and_every_role_an_operation(app: FastAPI) -> None:
    served = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    assert served == {*OPERATIONS}


def test_the_document_says_which(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            role = OPERATIONS[f"{method.upper()} {path}"]
            assert operation.get("x-role") == (role and role.value), (method, path)
            assert ("security" in operation) == (role is not None)


def test_what_reads_wants_read_and_what_changes_wants_more() -> None:
    for operation, role in OPERATIONS.items():
        if operation in ("GET /healthz", "GET /readyz"):
            assert role is None
        else:
            assert (role is Role.READ) == operation.startswith("GET "), operation


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/v1/jobs/0198/events", Role.READ),
        ("HEAD", "/v1/jobs", Role.READ),
        ("POST", "/v1/jobs", Role.RUN),
        ("POST", "/v1/jobs/0198/cancel", Role.RUN),
        ("POST", "/v1/targets/vllm-mistral-7b/probe", Role.RUN),
        ("PATCH", "/v1/runs/0198", Role.ADMIN),
        ("DELETE", "/v1/targets/a.b-c", Role.ADMIN),
        ("GET", "/openapi.json", Role.READ),
        ("GET", "/docs", Role.READ),
        ("OPTIONS", "/v1/jobs", Role.READ),
        # What nobody serves: to be told so, one must be able to do everything.
        ("DELETE", "/v1/runs/0198", Role.ADMIN),
        ("POST", "/v1/jobs/", Role.ADMIN),
        ("POST", "/v1/jobs/0198/cancel/more", Role.ADMIN),
        ("POST", "/healthz", Role.ADMIN),
        ("post", "/v1/jobs", Role.ADMIN),
        ("PUT", "/nothing", Role.ADMIN),
        ("GET", "/healthz", None),
    ],
)
def test_the_role_of_a_request(method: str, path: str, role: Role | None) -> None:
    assert role_for(method, path) is role


def test_health_alone_is_for_anybody() -> None:
    assert [operation for operation in OPERATIONS if is_open(operation.partition(" ")[2])] == [
        "GET /healthz",
        "GET /readyz",
    ]
