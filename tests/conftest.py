"""Databases for every test that wants one: SQLite, and a real Postgres that the session starts itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from services.store.database import Database, close, migrate, open_database
from tests.fakes.postgres import PostgresServer, postgres_server

#: What holds a machine's faults apart from an engine's: two of these at once would spoil each other.
ALONE = (
    "integration/test_known_answer.py",
    "integration/validity",
)


#: What takes seconds a test, for it starts services and engines.
LONG = ("acceptance", "stack")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Marks what is to run alone, and deals what is left after `-m` to those that share the rest, the longest first."""
    for item in items:
        if lies_in(item, ALONE):
            item.add_marker("alone")
    yield
    if sharers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        items[:] = deal(items, sharers)


def lies_in(item: pytest.Item, places: Sequence[str]) -> bool:
    return any(item.path.is_relative_to(Path(__file__).parent / place) for place in places)


def deal(items: Sequence[pytest.Item], sharers: int) -> list[pytest.Item]:
    """The same tests, so that each of the equal parts which worksteal gives out at first begins with the longest ones.

    A part's owner keeps its beginning, and whoever has nothing left steals from an end.
    """
    longest = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    longest += [item for item in others if lies_in(item, LONG)]
    short = iter(item for item in others if not lies_in(item, LONG))
    dealt: list[pytest.Item] = []
    for number in range(sharers):
        size = (len(items) - len(dealt)) // (sharers - number)
        hand = longest[number::sharers]
        dealt += [*hand, *islice(short, size - len(hand))]
    return dealt


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
