"""What the way into the database says when it is closed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from services.domain.errors import Unavailable
from services.store import database as module
from services.store.database import close, open_database, ping


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
