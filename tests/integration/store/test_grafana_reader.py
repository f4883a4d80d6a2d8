"""Grafana's role reads what dashboards show, and never a key's digest: on a fresh volume, and on one from before."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import inspect

from services.domain.key import Role
from services.store.database import close, migrate, migration_config, open_database
from services.store.keys import create_key
from tests.fakes.postgres import MortalPostgres, _binaries, libpq_url, mortal_postgres

SCRIPT = Path(__file__).parents[3] / "dashboards" / "postgres" / "grafana-reader.sh"
PASSWORD = "it's a secret"


def make_role(url: str) -> None:
    """As the postgres image does."""
    known = conninfo_to_dict(libpq_url(url))
    told = {"PGHOST": known["host"], "POSTGRES_USER": known["user"], "POSTGRES_DB": known["dbname"]}
    told |= {"GRAFANA_DB_PASSWORD": PASSWORD, "PATH": f"{_binaries()}:{os.environ['PATH']}"}
    done = subprocess.run([SCRIPT], env={k: str(v) for k, v in told.items()}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def assert_reads_all_but_keys(url: str) -> None:
    database = open_database(url)
    create_key(database, name="somebody", role=Role.READ)
    tables = {*inspect(database.engine).get_table_names()}
    close(database)
    assert {"runs", "jobs", "documents", "api_keys"} < tables
    reader = make_conninfo(libpq_url(url), user="grafana_reader", password=PASSWORD)
    with psycopg.connect(reader, autocommit=True) as connection:
        for table in sorted(tables - {"api_keys"}):
            connection.execute(f"SELECT count(*) FROM {table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT digest FROM api_keys")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE scribble (k int)")


def upgrade(url: str, revision: str) -> None:
    database = open_database(url)
    with database.write() as connection:
        command.upgrade(migration_config(connection), revision)
    close(database)


def drop_role(postgres: MortalPostgres, url: str) -> None:
    with psycopg.connect(libpq_url(url), autocommit=True) as admin:
        admin.execute("DROP OWNED BY grafana_reader")
        admin.execute("DROP ROLE grafana_reader")
    postgres.server.drop_database(url)


def test_the_reader_reads_all_but_the_keys() -> None:
    with mortal_postgres() as postgres:
        fresh = postgres.server.create_database()
        make_role(fresh)
        migrate(fresh)
        assert_reads_all_but_keys(fresh)
        drop_role(postgres, fresh)

        migrated = postgres.server.create_database()
        migrate(migrated)
        make_role(migrated)
        assert_reads_all_but_keys(migrated)
        drop_role(postgres, migrated)

        old = postgres.server.create_database()
        upgrade(old, "0009")
        with psycopg.connect(libpq_url(old), autocommit=True) as admin:
            # As the script had it once.
            admin.execute(f"CREATE ROLE grafana_reader LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
            admin.execute("GRANT pg_read_all_data, pg_read_all_stats TO grafana_reader")
            admin.execute("ALTER ROLE grafana_reader SET default_transaction_read_only = on")
        migrate(old)
        assert_reads_all_but_keys(old)


def test_where_somebody_else_made_the_role_its_owner_s_migration_still_runs() -> None:
    """The service's own account is seldom a superuser where Postgres is managed."""
    with mortal_postgres() as postgres:
        url = postgres.server.create_database()
        with psycopg.connect(libpq_url(url), autocommit=True) as admin:
            admin.execute("CREATE ROLE grafana_reader LOGIN")
            admin.execute("ALTER ROLE grafana_reader SET default_transaction_read_only = on")
            admin.execute("CREATE ROLE owner LOGIN")
            admin.execute("GRANT CREATE ON SCHEMA public TO owner")
            admin.execute("CREATE TABLE somebody_elses (k int)")
        migrate(url.replace("postgres@", "owner@", 1))
        reader = make_conninfo(libpq_url(url), user="grafana_reader")
        with psycopg.connect(reader, autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM runs")
            for table in ("api_keys", "somebody_elses"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"SELECT count(*) FROM {table}")
