"""The panels' own database: Postgres alone, for their SQL is written for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.store.database import Database, close, open_database
from tests.fakes.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer, migrated_postgres: str) -> Iterator[str]:
    made = postgres.create_database(template=migrated_postgres)
    yield made
    postgres.drop_database(made)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url)
    yield opened
    close(opened)
