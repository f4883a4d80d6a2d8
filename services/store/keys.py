"""API keys: made once, looked up at each request, revoked for good. No row ever goes, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, exists, insert, or_, select, update
from sqlalchemy.exc import ProgrammingError

from services.domain.errors import NotFound, Problem, Unavailable
from services.domain.key import Role, digest_of, draw_key, id_in, is_key
from services.store.database import Database, now
from services.store.tables import api_keys

#: `last_used_at` is no older than this behind the truth: a request must not wait for a writer.
USED_EVERY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown."""

    #: public: it stands in the key's text too
    id: str
    name: str
    role: Role
    created_at: datetime
    #: to within `USED_EVERY`; `None`: never
    last_used_at: datetime | None
    #: from then on it opens nothing; `None`: it is in force
    revoked_at: datetime | None


def create_key(database: Database, *, name: str, role: Role) -> tuple[ApiKey, str]:
    """A new key, and its text: this once, for only its digest is kept."""
    key_id, text = draw_key()
    with _migrated(), database.write() as connection:
        moment = now(connection)
        row = {"id": key_id, "name": name, "role": role.value, "digest": digest_of(text), "created_at": moment}
        connection.execute(insert(api_keys), row)
    return ApiKey(key_id, name, role, moment, None, None), text


def list_keys(database: Database) -> list[ApiKey]:
    """All there ever were, the oldest first."""
    with _migrated(), database.read() as connection:
        rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
        return [_key_from(row) for row in rows]


def revoke_key(database: Database, key_id: str) -> ApiKey:
    """From now on it opens nothing. Again: no effect. Raises NotFound."""
    with _migrated(), database.write() as connection:
        one = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        connection.execute(one.values(revoked_at=now(connection)))
        row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings().one_or_none()
    if row is None:
        missing = f"there is no key {key_id!r}"
        raise NotFound(missing, (Problem("key", missing, "take an id from `enginebench admin keys list`"),))
    return _key_from(row)


def find_key(database: Database, text: str) -> ApiKey | None:
    """The key of this text, revoked or not; `None`: there is none. Notes that it is used. Raises Unavailable."""
    key_id = id_in(text)
    if key_id is None:
        return None
    with _migrated(), database.read() as connection:
        row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings().one_or_none()
        if row is None or not is_key(text, row["digest"]):
            return None
        moment = now(connection)
    found = _key_from(row)
    if found.revoked_at is None and (found.last_used_at is None or found.last_used_at < moment - USED_EVERY):
        # That nobody can note it is no reason to refuse the key.
        with suppress(Unavailable), database.write() as connection:
            stale = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < moment)
            used = update(api_keys).where(api_keys.c.id == key_id, stale)
            connection.execute(used.values(last_used_at=moment))
    return found


def is_revoked(database: Database, key_id: str) -> bool:
    """It opens nothing any more. Raises Unavailable."""
    with _migrated(), database.read() as connection:
        revoked = exists().where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_not(None))
        return bool(connection.scalar(select(revoked)))


def is_any_made(database: Database) -> bool:
    """A key was made here once, in force or not. Raises Unavailable."""
    with _migrated(), database.read() as connection:
        return bool(connection.scalar(select(exists().select_from(api_keys))))


def is_any_in_force(database: Database) -> bool:
    """Somebody can get in with a stored key. Raises Unavailable."""
    with _migrated(), database.read() as connection:
        return bool(connection.scalar(select(exists().where(api_keys.c.revoked_at.is_(None)))))


@contextmanager
def _migrated() -> Iterator[None]:
    try:
        yield
    except ProgrammingError:
        # Postgres has an error of its own for a table that is not there.
        raise Unavailable("the database is not migrated: run `enginebench migrate`") from None


def _key_from(row: RowMapping) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        role=Role(row["role"]),
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
