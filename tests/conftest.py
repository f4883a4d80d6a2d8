"""Databases for every test that wants one: SQLite, and a real Postgres that the session starts itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.database import Database, close, migrate, open_database
from tests.fakes.postgres import PostgresServer, postgres_server

#: What measures, or holds a machine's faults apart from an engine's: two of these at once would spoil each other.
ALONE = (
    "acceptance/test_demo.py",
    "acceptance/test_fair_turns.py",
    "acceptance/test_faults.py",
    "acceptance/test_mission.py",
    "acceptance/test_starts.py",
    "acceptance/test_sweep_and_search.py",
    "integration/arrivals",
    "integration/engines",
    "integration/load",
    "integration/test_known_answer.py",
    "integration/test_runner.py",
    "integration/validity",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks them, so that `make test` runs them one at a time, and the others two at a time."""
    for item in items:
        if any(item.path.is_relative_to(Path(__file__).parent / place) for place in ALONE):
            item.add_marker("alone")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres. Where it cannot start, the tests that need it fail."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> Iterator[str]:
    """A migrated Postgres database to copy."""
    url = postgres.create_database()
    migrate(url)
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own, once of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "enginebench.sqlite"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database(template=request.getfixturevalue("migrated_postgres"))
    yield url
    server.drop_database(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, open."""
    opened = open_database(database_url)
    yield opened
    close(opened)
