"""The migrations make the tables, on both databases, from several processes at once, up and down."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from services.domain.errors import Unavailable
from services.store.database import close, migrate, migration_config, open_database, ping
from services.store.tables import metadata


def test_a_migrated_database_is_what_the_tables_say(empty_database_url: str) -> None:
    migrate(empty_database_url)
    database = open_database(empty_database_url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    close(database)


def test_migrating_again_changes_nothing(empty_database_url: str) -> None:
    migrate(empty_database_url)
    migrate(empty_database_url)
    database = open_database(empty_database_url)
    ping(database)
    close(database)


def test_every_migration_can_be_taken_back(empty_database_url: str) -> None:
    migrate(empty_database_url)
    database = open_database(empty_database_url)
    with database.write() as connection:
        command.downgrade(migration_config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    close(database)
    migrate(empty_database_url)


def test_processes_that_start_at_once_migrate_once(empty_database_url: str) -> None:
    code = "import sys; from services.store.database import migrate; migrate(sys.argv[1])"
    starts = [
        subprocess.Popen([sys.executable, "-c", code, empty_database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[1] for process in starts] == [""] * 3
    assert [process.returncode for process in starts] == [0] * 3
    database = open_database(empty_database_url)
    ping(database)
    close(database)


def test_ping_names_a_database_that_is_not_migrated(empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    with pytest.raises(Unavailable):
        ping(database)
    close(database)
