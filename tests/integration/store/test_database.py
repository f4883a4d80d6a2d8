"""What the way into the database says when it is closed."""

from __future__ import annotations

from contextlib import ExitStack

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
