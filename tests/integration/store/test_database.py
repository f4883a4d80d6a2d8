"""What the way into the database says when it is closed."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from services.domain.errors import Unavailable
from services.store import database as module
from services.store.database import Database, close, open_database, ping
from tests.fakes.postgres import PostgresServer, mortal_postgres

#: Longest wait for an answer: short here, and long enough for a busy machine.
TIMEOUT_S = 2.0


def test_a_pool_whose_connections_are_all_in_use_is_an_outage(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOL_TIMEOUT_S", 0.05)
    database = open_database(database_url)
    with ExitStack() as held:
        for _ in range(2 * module.POOL_SIZE):
            held.enter_context(database.engine.connect())
        with pytest.raises(Unavailable, match="in use"):
            ping(database)
    ping(database)
    close(database)


def test_a_full_disk_is_named_with_its_mend(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/full.sqlite")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE big (data BLOB)")

    def fill() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 3")
            connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(1000000))")

    with pytest.raises(Unavailable, match="disk is full") as refusal:
        fill()
    assert "free some space" in refusal.value.problems[0].mend
    close(database)


def sleep(database: Database, length_s: float) -> None:
    with database.read() as connection:
        connection.execute(text("SELECT pg_sleep(:length_s)"), {"length_s": length_s})


def answer(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT 7")).scalar_one())


def test_a_postgres_that_hangs_is_an_outage_and_goes_by() -> None:
    with mortal_postgres() as postgres:
        database = open_database(postgres.server.admin_url, timeout_s=TIMEOUT_S)

        def ask_twice() -> None:
            with database.read() as connection:
                connection.execute(text("SELECT 1"))
                postgres.freeze()
                connection.execute(text("SELECT 2"))

        with pytest.raises(Unavailable, match="does not answer: no answer within 2 s"):
            ask_twice()
        # A new connection, for the old one is given up.
        with pytest.raises(Unavailable, match="does not answer: connection timeout expired"):
            answer(database)
        postgres.thaw()
        assert answer(database) == 7
        close(database)


def test_a_connection_that_was_left_to_a_postgres_that_hangs_is_given_up() -> None:
    with mortal_postgres() as postgres:
        database = open_database(postgres.server.admin_url, timeout_s=TIMEOUT_S)
        assert answer(database) == 7
        postgres.freeze()
        with pytest.raises(Unavailable, match="does not answer"):
            answer(database)
        postgres.thaw()
        assert answer(database) == 7
        close(database)


def test_one_that_takes_connections_and_says_nothing_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgresql://somebody@127.0.0.1:{mute.getsockname()[1]}/name"
        database = open_database(url, timeout_s=TIMEOUT_S)
        with pytest.raises(Unavailable, match="does not answer: connection timeout expired"):
            answer(database)
        close(database)


def test_a_statement_that_takes_too_long_is_given_up_by_the_server_and_others_are_not(
    postgres: PostgresServer,
) -> None:
    url = postgres.create_database()
    bounded, patient = open_database(f"{url}&options=-c%20work_mem=5MB", timeout_s=1.0), open_database(url)
    with pytest.raises(Unavailable, match="statement timeout"):
        sleep(bounded, 60.0)
    with bounded.read() as connection:
        active = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        assert connection.execute(text(active)).scalar_one() == 1, "only the one that asks is at work"
        assert connection.execute(text("SHOW work_mem")).scalar_one() == "5MB", "what the URL asks for holds too"
    sleep(patient, 1.5)
    close(bounded)
    close(patient)
    postgres.drop_database(url)
