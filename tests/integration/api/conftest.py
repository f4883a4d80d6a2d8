"""The API in this process, on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.settings import Settings

BASE_URL = "http://127.0.0.1:8700"


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(database_url: str, tmp_path: Path, dataset_dir: Path) -> Settings:
    return Settings(
        database_url=database_url,
        state_dir=tmp_path / "state",
        dataset_dir=dataset_dir,
        secrets={"VLLM_KEY": "http://127.0.0.1:9"},
        max_body_bytes=200_000,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url=BASE_URL) as opened:
        yield opened
