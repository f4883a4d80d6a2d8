"""API keys in the database: found by their text, noted as used, revoked for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from engines.clock import wall_ns
from services.domain.errors import NotFound, Unavailable
from services.domain.key import Role, draw_key
from services.store.database import Database, close, now, open_database
from services.store.keys import (
    USED_EVERY,
    ApiKey,
    create_key,
    find_key,
    is_any_in_force,
    is_any_made,
    list_keys,
    revoke_key,
)
from services.store.tables import api_keys


def used_at(database: Database, key: ApiKey) -> datetime | None:
    (found,) = (one for one in list_keys(database) if one.id == key.id)
    return found.last_used_at


def test_a_key_is_found_by_its_text_and_by_nothing_else(database: Database) -> None:
    key, text = create_key(database, name="ci", role=Role.RUN)
    other, other_text = create_key(database, name="ci", role=Role.READ)
    found = find_key(database, text)
    assert found is not None
    assert (found.id, found.name, found.role, found.created_at) == (key.id, "ci", Role.RUN, key.created_at)
    assert abs(key.created_at - datetime.fromtimestamp(wall_ns() / 1e9, UTC)) < timedelta(minutes=5)
    mixed = text.replace(key.id, other.id)
    for wrong in ("", key.id, text[:-1], text + "x", text.upper(), mixed, draw_key()[1], text.removeprefix("ebk_")):
        assert find_key(database, wrong) is None, wrong
    assert [one.id for one in list_keys(database)] == [key.id, other.id]
    assert find_key(database, other_text) is not None


def test_only_a_digest_is_kept(database: Database) -> None:
    _, text = create_key(database, name="ci", role=Role.RUN)
    with database.read() as connection:
        (row,) = connection.execute(select(api_keys)).mappings()
    secret = text.split("_", 2)[2]
    assert all(secret not in str(value) for value in row.values())
    assert len(row["digest"]) == 64


def test_its_use_is_noted_now_and_then(database: Database) -> None:
    key, text = create_key(database, name="ci", role=Role.RUN)
    assert used_at(database, key) is None
    find_key(database, text.replace(text[-1], "A" if text[-1] != "A" else "B"))
    assert used_at(database, key) is None
    find_key(database, text)
    first = used_at(database, key)
    assert first is not None
    find_key(database, text)
    assert used_at(database, key) == first
    with database.write() as connection:
        long_ago = now(connection) - USED_EVERY - timedelta(seconds=1)
        connection.execute(update(api_keys).values(last_used_at=long_ago))
    find_key(database, text)
    again = used_at(database, key)
    assert again is not None
    assert again >= first


def test_a_revoked_key_stays_revoked(database: Database) -> None:
    assert not is_any_made(database)
    key, text = create_key(database, name="ci", role=Role.RUN)
    assert (is_any_made(database), is_any_in_force(database)) == (True, True)
    revoked = revoke_key(database, key.id)
    assert revoked.revoked_at is not None
    assert revoke_key(database, key.id) == revoked
    found = find_key(database, text)
    assert found is not None
    assert (found.revoked_at, found.last_used_at) == (revoked.revoked_at, None)
    assert (is_any_made(database), is_any_in_force(database)) == (True, False)
    with pytest.raises(NotFound, match="there is no key 'none'"):
        revoke_key(database, "none")


def test_a_database_without_the_table_is_not_one_without_keys(empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    for ask in (is_any_made, is_any_in_force, lambda empty: find_key(empty, draw_key()[1])):
        with pytest.raises(Unavailable):
            ask(database)
    close(database)
